from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cnnkit.api.evaluation.advice import few_images_advice
from cnnkit.api.inference.target import find_target


@pytest.fixture
def photographs(trained_once, tmp_path):
    """Return a function that copies the finished run as one of photographs of 224 px, with settings of the model replaced."""

    def copy(**model: object) -> Path:
        ignored = shutil.ignore_patterns("manifest.json")  # it would refuse the edited record
        run = Path(shutil.copytree(trained_once.run, tmp_path / "runs" / "001-custom-cnn", ignore=ignored))
        record = json.loads((run / "config.json").read_text())
        record["preprocessing"]["image_size"] = 224
        record["config"]["model"].update(model)
        record["config"]["data"]["data"] = "photos"
        (run / "config.json").write_text(json.dumps(record))
        return run

    return copy


def test_few_images_from_scratch_get_the_command_with_weights(photographs):
    advice = few_images_advice(find_target(photographs()))
    assert advice.startswith("train has 14 images per class, and under 500 ")
    assert ": cnnkit train --data photos --arch " in advice


def test_a_run_from_weights_needs_no_advice(photographs):
    assert few_images_advice(find_target(photographs(weights="pretrained"))) == ""


def test_a_run_on_small_images_needs_no_advice(trained_once):
    assert few_images_advice(find_target(trained_once.run)) == ""


def test_a_file_without_a_run_or_record_gives_no_advice(photographs, tmp_path):
    run = photographs()
    lone = Path(shutil.copy(run / "best.safetensors", tmp_path / "lone.safetensors"))
    assert few_images_advice(find_target(lone)) == ""
    target = find_target(run)
    (run / "config.json").write_text("{")
    assert few_images_advice(target) == ""
