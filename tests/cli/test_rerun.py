from __future__ import annotations

from pathlib import Path

import pytest

from cnnkit.run_dir import RunDir
from cnnkit.run_dir.history import write_history

SMALL = ("--set", "width=8", "--set", "blocks=2", "--set", "dense=32", "--batch-size", "16", "--epochs", "2")


def change(run: Path) -> None:
    """Change a figure of the history of `run`."""
    rows = RunDir(run).read_history()
    write_history(RunDir(run).history, [rows[0].model_copy(update={"train_loss": 9.5}), *rows[1:]])


def test_a_repetition_ends_with_the_verdict_and_the_next_command(cli, image_folder):
    data = image_folder(images=12)
    assert cli("train", "--data", data, *SMALL, "--deterministic").code == 0
    again = cli("rerun", "001-custom-cnn")
    assert again.code == 0, again.err
    assert again.out.splitlines() == [
        "the repetition has the same figures in all 2 epochs, and the model files are bit-equal",
        "next: cnnkit compare runs/001-custom-cnn runs/002-custom-cnn",
    ]
    change(Path("runs/001-custom-cnn"))
    data.rename("moved")
    differs = cli("rerun", "runs/001-custom-cnn", "--data", "moved")
    assert differs.code == 1
    assert differs.out.startswith("epoch 1: train_loss 9.5, again ")
    assert "the figures differ in 1 of 2 epochs, and the model files are bit-equal" in differs.out
    assert "runs/001-custom-cnn was trained with --deterministic, and runs/003-custom-cnn has other figures" in differs.err


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_differences_of_a_run_without_deterministic_are_only_reported(cli, trained, flags):
    change(trained.run)
    again = cli("rerun", trained.run, *flags)
    assert again.code == 0, again.err
    if flags:
        document = again.json()
        assert (document["same_figures"], document["same_model"], document["deterministic"]) == (False, True, False)
        assert [(each["epoch"], each["figure"], each["first"]) for each in document["differences"]] == [(1, "train_loss", 9.5)]
    else:
        assert "the figures differ in 1 of 6 epochs" in again.out
