from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cnnkit.cli.usage import offered_command


def typed(result) -> str:
    """Return the command that a refused command line offers; an empty text if it offers none."""
    assert result.code == 2
    lines = [line for line in result.err.splitlines() if line.startswith("type ")]
    return " ".join(lines[0].split()[1:]) if lines else ""


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("train ./images --epochs 1", "cnnkit train --data ./images --epochs 1"),
        ("lr-find images", "cnnkit lr-find --data images"),
        ("eval images", "cnnkit eval --data images"),
        ("eval best.safetensors", "cnnkit eval --model best.safetensors"),
        ("export 001-a", "cnnkit export --model 001-a"),
        ("export onnx", "cnnkit export --onnx"),
        ("doctor --data images --strict", "cnnkit doctor images --strict"),
        ("split -d images", "cnnkit split images"),
        ("predict --data=images", "cnnkit predict images"),
        ("report --model 001-a", "cnnkit report 001-a"),
        ("compare --model 001-a --model 002-b", "cnnkit compare 001-a 002-b"),
        ("resume --run 001-a", "cnnkit resume 001-a"),
        ("info -m 001-a", "cnnkit info 001-a"),
        ("doctor", "cnnkit doctor ./images"),
        ("predict", "cnnkit predict photo.jpg"),
        ("archs show", "cnnkit archs show custom-cnn"),
        ("test --confusion", "cnnkit eval --confusion"),
        ("fit --data images", "cnnkit train --data images"),
        ("infer a.jpg", "cnnkit predict a.jpg"),
        ("train images more", ""),
        ("train --nonsense", ""),
        ("frobnicate", ""),
    ],
)
def test_a_usage_error_offers_the_command_that_is_meant(cli, line, offered):
    Path("images").mkdir()
    assert typed(cli(*line.split())) == offered


def test_the_offered_command_can_be_pasted(cli):
    assert typed(cli("train", "my images", "--epochs", "1")) == "cnnkit train --data 'my images' --epochs 1"


def test_a_run_is_told_from_images_by_its_files(cli, trained):
    assert typed(cli("eval", trained.run.name, "--confusion")) == f"cnnkit eval --model {trained.run.name} --confusion"
    shutil.copytree(trained.run, "copy")
    assert typed(cli("eval", "copy")) == "cnnkit eval --model copy"
    assert typed(cli("eval", trained.data)) == f"cnnkit eval --data {trained.data}"


def test_a_path_in_the_place_of_a_command_offers_the_command_that_takes_it(cli, trained):
    for name in ("photo.jpg", "table.csv", "model.onnx"):
        Path(name).touch()
    assert typed(cli(trained.data)) == f"cnnkit train --data {trained.data}"
    assert typed(cli("table.csv", "--epochs", "1")) == "cnnkit train --data table.csv --epochs 1"
    assert typed(cli("photo.jpg")) == "cnnkit predict photo.jpg"
    assert typed(cli("model.onnx")) == "cnnkit info model.onnx"
    assert typed(cli(trained.run.name)) == f"cnnkit info {trained.run.name}"


def test_an_error_without_a_command_offers_nothing():
    assert offered_command(Exception("no context"), ["train"]) is None


@pytest.mark.parametrize("arguments", [["info"], ["report"], ["compare", "other"], ["export", "--onnx", "--model"], ["eval", "--model"]])
def test_a_run_goes_by_the_name_that_runs_prints(cli, trained, arguments):
    shutil.copytree(trained.run, "runs/other")
    (Path("runs/other/best.safetensors")).write_bytes(trained.run.joinpath("best.safetensors").read_bytes() + b" ")
    trained.run.rename("runs/best so far")
    result = cli(*arguments, "best so far")
    assert "no such file" not in result.err
    assert "not a run" not in result.err
