from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cnnkit.cli.benchmark import TRAINING_SETTINGS
from cnnkit.config.settings import SECTIONS

SMALL = ("--set", "width=8", "--set", "blocks=2", "--set", "dense=32", "--image-size", 16, "--precision", "fp32", "--seconds", 0.1)


def test_a_table_and_the_same_figures_in_a_file(cli):
    result = cli("benchmark", "--data", "digits", *SMALL, "--batch-size", 256, "--out", "speed.json")
    assert result.code == 0
    for word in ("gather", "augment", "step", "train", "validate", "predict", "waits for data", "peak RSS", "verdict: "):
        assert word in result.out
    assert "no mirroring" in result.err
    document = json.loads(Path("speed.json").read_text())
    assert document["training"]["batch_size"] == 256
    assert document["verdict"]


def test_a_model_on_other_data_is_measured_without_a_training(cli, trained):
    result = cli("benchmark", "--data", trained.data, "--model", trained.run, "--seconds", 0.1, "--json")
    document = result.json()
    assert document["training"] is None
    assert document["models"][0]["file"].endswith("best.safetensors")
    assert "newest" not in result.err


@pytest.mark.slow
def test_without_flags_it_measures_the_newest_finished_run(cli, trained):
    result = cli("benchmark", "--seconds", 0.1, "--json")
    assert "best.safetensors (the newest finished run)" in result.err
    assert result.json()["training"]["arch"] == "custom-cnn"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["benchmark"], "no finished run under runs.*cnnkit benchmark --data FOLDER"),
        (["benchmark", "--arch", "custom-cnn"], "--arch needs --data.*add --data FOLDER, or --data digits"),
        (["benchmark", "--recipe", "default"], "--recipe needs --data.*add --data FOLDER"),
        (["benchmark", "-m", "x.onnx", "-b", "8"], "--batch-size cannot change the trained model --model x.onnx"),
        (["benchmark", "-m", "x.onnx"], "--model x.onnx: no such file or run directory"),
        (["benchmark", "--data", "digits", "--out", "x.csv"], "the ending must be .json"),
    ],
)
def test_usage_errors_say_what_to_type(cli, arguments, message):
    result = cli(*arguments)
    assert result.code == 2
    assert re.search(message, " ".join(result.err.split()))


def test_the_flags_are_settings_of_a_training():
    known = {name for section in SECTIONS.values() for name in section.model_fields}
    assert set(TRAINING_SETTINGS) <= known
