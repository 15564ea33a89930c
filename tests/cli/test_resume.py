from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from cnnkit.files import fingerprint, write_json

SMALL = ("--set", "width=8", "--set", "blocks=2", "--set", "dense=32", "--precision", "fp32", "--batch-size", "16")
FIGURES = ("epoch", "step", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "is_best")


@pytest.fixture
def stop_after(monkeypatch):
    """Return a function that interrupts the next training after `epochs` epochs, as Ctrl-C does."""
    from cnnkit.report.terminal.live import EpochTable

    whole = EpochTable.add

    def arrange(epochs: int) -> None:
        def add(self, epoch):
            whole(self, epoch)
            if epoch.epoch == epochs:
                monkeypatch.setattr(EpochTable, "add", whole)
                raise KeyboardInterrupt

        monkeypatch.setattr(EpochTable, "add", add)

    return arrange


def figures(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{key: row[key] for key in FIGURES} for row in rows]


@pytest.mark.parametrize("flags", [(), ("--ema", 0.9)], ids=["weights", "average"])
def test_a_resumed_run_equals_an_uninterrupted_run(cli, image_folder, stop_after, read_rows, flags):
    data = image_folder(images=12)
    command = ("train", "--data", data, "--epochs", 5, "--patience", 0, *SMALL, *flags)
    straight, broken = Path("runs/001-custom-cnn"), Path("runs/002-custom-cnn")
    assert cli(*command).code == 0
    stop_after(2)
    stopped = cli(*command)
    assert stopped.code == 130
    assert "the best model so far, of epoch" in stopped.err
    assert "next: cnnkit resume runs/002-custom-cnn" in stopped.err
    assert json.loads((broken / "config.json").read_text())["status"] == "stopped"
    resumed = cli("resume", broken)
    assert resumed.code == 0, resumed.err
    assert "continuing runs/002-custom-cnn after epoch 2" in resumed.err
    assert figures(read_rows(straight / "history.csv")) == figures(read_rows(broken / "history.csv"))
    assert fingerprint(straight / "best.safetensors") == fingerprint(broken / "best.safetensors")
    one, other = (json.loads((run / "config.json").read_text()) for run in (straight, broken))
    assert one == other


def test_a_run_whose_images_have_moved_keeps_its_names_and_every_byte_of_its_model(cli, image_folder, stop_after, tmp_path, monkeypatch):
    image_folder(images=12)
    command = ("train", "--data", "images", "--epochs", 4, "--patience", 0, *SMALL, "--deterministic")
    straight, broken = tmp_path / "runs/001-custom-cnn", tmp_path / "runs/002-custom-cnn"
    assert cli(*command).code == 0
    stop_after(1)
    monkeypatch.setattr("sys.argv", ["cnnkit", *map(str, command)])
    assert cli(*command).code == 130
    (tmp_path / "elsewhere").mkdir()
    Path("images").rename("elsewhere/moved")
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr("sys.argv", ["cnnkit", "resume", str(broken)])
    resumed = cli("resume", broken, "--data", "moved")
    assert resumed.code == 0, resumed.err
    assert fingerprint(straight / "best.safetensors") == fingerprint(broken / "best.safetensors")
    record = json.loads((broken / "config.json").read_text())
    assert record["command"] == ["cnnkit", *map(str, command)]
    assert (record["config"]["data"]["data"], record["config"]["data"]["split_file"], record["data"]["name"]) == ("images", None, "images")
    assert record["data"]["location"] == str(tmp_path / "elsewhere/moved"), "the images are there now"


@pytest.mark.parametrize(("saves", "place"), [(2, "in epoch 1, after step 2"), (3, "in epoch 2, after step 4")])
def test_a_run_that_stops_inside_an_epoch_continues_at_its_step(cli, image_folder, monkeypatch, saves, place, read_rows):
    from cnnkit.api.training import job

    whole, done = job.save_state, []

    def save(folder, model, state):
        whole(folder, model, state)
        done.extend([state.step] if state.part else [])
        if len(done) == saves:
            raise KeyboardInterrupt

    command = ("train", "--data", image_folder(images=16), "--epochs", 3, "--patience", 0, *SMALL, "--save-every", "0.000001s")
    straight, broken = Path("runs/001-custom-cnn"), Path("runs/002-custom-cnn")
    assert cli(*command).code == 0
    monkeypatch.setattr(job, "save_state", save)
    stopped = cli(*command)
    assert stopped.code == 130
    assert "next: cnnkit resume runs/002-custom-cnn" in stopped.err
    assert json.loads((broken / "config.json").read_text())["result"]["epochs"] == int(place[9]) - 1
    monkeypatch.setattr(job, "save_state", whole)
    resumed = cli("resume", broken)
    assert resumed.code == 0, resumed.err
    assert f"continuing runs/002-custom-cnn {place}" in resumed.err
    assert figures(read_rows(straight / "history.csv")) == figures(read_rows(broken / "history.csv"))
    assert fingerprint(straight / "best.safetensors") == fingerprint(broken / "best.safetensors")
    assert json.loads((straight / "config.json").read_text()) == json.loads((broken / "config.json").read_text())


def test_a_run_with_changed_images_is_not_resumed(cli, image_folder, stop_after):
    data = image_folder(images=12)
    stop_after(1)
    assert cli("train", "--data", data, "--epochs", 3, *SMALL).code == 130
    (data / "ants" / "ants-000.jpg").unlink()
    result = cli("resume")
    assert result.code == 2
    assert "has changed since the run began" in result.err
    assert "ants/ants-000.jpg" in result.err


@pytest.mark.parametrize(("epoch", "start"), [(1, "the training starts again from its beginning"), (2, "after epoch 1")])
def test_a_full_disk_stops_a_training_that_can_go_on(cli, image_folder, monkeypatch, epoch, start):
    from cnnkit.api.training import job

    whole = job.save_state

    def save(folder, model, state):
        if state.epoch == epoch:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder / "state.pt"))
        whole(folder, model, state)

    monkeypatch.setattr(job, "save_state", save)
    stopped = cli("train", "--data", image_folder(images=12), "--epochs", 3, *SMALL)
    assert stopped.code == 3
    said = " ".join(stopped.err.split())
    assert "last/state.pt: No space left on device" in said
    assert ("then type: " if epoch > 1 else "start again with the same settings: ") + "cnnkit resume runs/001-custom-cnn" in said
    assert "Traceback" not in stopped.err
    assert json.loads(Path("runs/001-custom-cnn/config.json").read_text())["status"] == "stopped"
    monkeypatch.setattr(job, "save_state", whole)
    assert start in (resumed := cli("resume")).err
    assert resumed.code == 0
    assert json.loads(Path("runs/001-custom-cnn/config.json").read_text())["status"] == "finished"


def test_images_that_have_moved_are_named(cli, image_folder, stop_after):
    data = image_folder(images=12)
    stop_after(1)
    assert cli("train", "--data", data, "--epochs", 2, *SMALL).code == 130
    data.rename("moved")
    lost = cli("resume")
    assert lost.code == 2
    assert "if the images have moved, name their folder: cnnkit resume runs/001-custom-cnn --data FOLDER" in " ".join(lost.err.split())
    (Path("moved") / "ants" / "ants-000.jpg").rename("kept.jpg")
    assert "has changed since the run began: ants/ants-000.jpg (missing)" in cli("resume", "--data", "moved").err
    Path("kept.jpg").rename(Path("moved") / "ants" / "ants-000.jpg")
    assert cli("resume", "--data", "moved").code == 0
    assert json.loads(Path("runs/001-custom-cnn/config.json").read_text())["status"] == "finished"


def test_a_finished_run_is_not_resumed(cli, trained):
    for named in ([], [trained.run.name], [trained.run / "best.safetensors"]):
        result = cli("resume", *named)
        assert result.code == 2
        assert f"{trained.run.name}: this run is finished" in result.err.replace("\n", "")
        assert "--weights" in result.err


def test_other_versions_are_accepted_by_a_flag(cli, image_folder, stop_after):
    stop_after(1)
    assert cli("train", "--data", image_folder(images=12), "--epochs", 2, *SMALL).code == 130
    file = Path("runs/001-custom-cnn/config.json")
    record = json.loads(file.read_text())
    write_json(file, {**record, "versions": {**record["versions"], "torch": "1.13.1"}})
    refused = cli("resume")
    assert refused.code == 2
    assert "cnnkit resume runs/001-custom-cnn --accept-versions" in " ".join(refused.err.split())
    accepted = cli("resume", "--accept-versions")
    assert accepted.code == 0
    assert "note    the versions have changed since the run began: torch 1.13.1, now" in accepted.err
