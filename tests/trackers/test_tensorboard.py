from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cnnkit.trackers import following
from cnnkit.trackers.tensorboard import TensorBoardTracker

pytest.importorskip("tensorboard")

SMALL = (
    "--set",
    "width=4",
    "--set",
    "blocks=1",
    "--set",
    "dense=8",
    "--precision",
    "fp32",
    "--batch-size",
    "16",
    "--epochs",
    "3",
    "--patience",
    "0",
)


def events(run: Path) -> Any:
    """Read the events of a run as TensorBoard does."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run / "events")).Reload()


def test_the_events_equal_history_csv_even_after_a_resume(cli, image_folder, read_rows, monkeypatch):
    from cnnkit.report.terminal.live import EpochTable

    whole = EpochTable.add

    def stop(self, epoch):
        whole(self, epoch)
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(EpochTable, "add", stop)
    run = Path("runs/001-custom-cnn")
    assert cli("train", "--data", image_folder(images=12), *SMALL, "--log", "tensorboard").code == 130
    monkeypatch.setattr(EpochTable, "add", whole)
    resumed = cli("resume", run)
    assert resumed.code == 0, resumed.err
    assert "--log" not in resumed.err
    found = events(run)
    rows = read_rows(run / "history.csv")
    for tag, column in (("loss/train", "train_loss"), ("loss/val", "val_loss"), ("accuracy/val", "val_accuracy"), ("learning_rate", "lr")):
        points = found.Scalars(tag)
        assert [point.step for point in points] == [1, 2, 3]
        assert [point.value for point in points] == pytest.approx([float(row[column]) for row in rows])
    assert {"accuracy/train", "macro_f1/val", "images_per_second"} <= set(found.Tags()["scalars"])
    (text,) = found.Tensors("config.json/text_summary")
    assert '"custom-cnn"' in text.tensor_proto.string_val[0].decode()
    plugins = found.summary_metadata
    assert any("hparams" in metadata.plugin_data.plugin_name for metadata in plugins.values())


def test_a_tracker_that_fails_is_named_and_the_training_continues(cli, image_folder, monkeypatch):
    def full(self, result):
        raise OSError("disk full")

    monkeypatch.setattr(TensorBoardTracker, "epoch", full)
    result = cli("train", "--data", image_folder(images=12), *SMALL, "--log", "tensorboard")
    assert result.code == 0
    failure = "tracker 'tensorboard' of cnnkit 0.1.0 failed in epoch 1: OSError: disk full"
    said = f"--log tensorboard was switched off: {failure}; the training goes on"
    assert said in " ".join(result.err.split())
    config = json.loads(Path("runs/001-custom-cnn/config.json").read_text())
    assert said in config["notes"]
    assert (config["status"], config["result"]["epochs"]) == ("finished", 3)


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_an_unknown_tracker_is_refused_before_anything_is_read(cli, dry):
    result = cli("train", "--data", "nowhere", "--log", "tensorboard,wanb", *dry)
    assert result.code == 2
    assert "no tracker named 'wanb' is installed; did you mean 'wandb'?" in " ".join(result.err.split())
    assert not Path("runs").exists()


def test_no_tracker_is_loaded_unless_asked_for(monkeypatch):
    monkeypatch.setattr(following, "load", None)
    assert following.Followers.named(()).notes == []
