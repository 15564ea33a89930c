from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cnnkit.api.inference.target import find_target
from cnnkit.api.speed import benchmark as module
from cnnkit.api.speed.benchmark import Bench, _offline_config
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import by_section
from cnnkit.errors import ConfigError
from cnnkit.run_dir import RunDir
from cnnkit.speed.stopwatch import Meter

SHORT = Bench(seconds=0.01)


def config(**settings):
    small = {"set": ("width=8", "blocks=2", "dense=32"), "image_size": 16, "batch_size": 256, "precision": "fp32"}
    return resolve(by_section({"data": "digits", **small, **settings}))


def test_data_alone_measures_a_training_and_its_untrained_network():
    found = SHORT.training(config())
    assert found.training is not None
    assert found.training.arch == "custom-cnn"
    assert tuple(found.training.start_seconds) == ("imports", "images", "network")  # a CPU need not be started
    assert min(found.training.start_seconds.values()) > 0
    (model,) = found.models
    assert (model.format, model.file, model.images) == ("torch", "", "digits")
    assert not Path("runs").exists()
    assert any("no mirroring" in note for note in found.notes)


def test_the_start_of_a_gpu_is_timed_alone(monkeypatch):
    joined: list[str] = []

    class Started:
        def join(self) -> None:
            joined.append("gpu")

    monkeypatch.setattr(module, "start_gpu", lambda _: Started())
    found = SHORT.training(config()).training
    assert found is not None
    assert joined == ["gpu"]
    assert tuple(found.start_seconds) == ("imports", "gpu", "images", "network")
    assert found.to_dict()["start_seconds"] == found.start_seconds


@pytest.mark.slow
def test_a_run_is_measured_with_its_exports_and_its_training(trained_export):
    (trained_export.parent / "damaged.onnx").write_bytes(b"no graph")
    found = SHORT.model(find_target(None))
    (note,) = [note for note in found.notes if "damaged" in note]
    assert re.search(r"damaged\.onnx is left out: .*not an ONNX file", note)
    assert [model.accuracy.split if model.accuracy else None for model in found.models] == ["val", "val"]
    assert found.models[0].accuracy == found.models[1].accuracy
    assert [Path(model.file).name for model in found.models] == ["best.safetensors", "model.onnx"]
    assert found.training is not None
    assert found.training.batch_size == 16
    alone = SHORT.model(find_target(trained_export))
    assert alone.training is None
    assert [model.format for model in alone.models] == ["onnx"]
    assert alone.models[0].accuracy == found.models[1].accuracy


def test_other_data_measures_the_model_alone(trained):
    found = SHORT.model(find_target(None), data="digits")
    assert found.training is None
    assert [(model.images, model.accuracy) for model in found.models] == [("digits", None)]


def test_a_lone_file_needs_images(trained):
    lone = shutil.copy(trained.run / "best.safetensors", "lone.safetensors")
    with pytest.raises(ConfigError, match=r"lone\.safetensors lies in no run directory.*--data FOLDER"):
        SHORT.model(find_target(lone))


def test_a_busy_machine_gives_a_note():
    busy = iter([0.0, 1e9])
    found = replace(SHORT, meter=Meter(machine=lambda: next(busy))).training(config())
    assert found.busy_share == 1
    assert "other programs used 100 % of the processors" in found.notes[-1]


def test_the_training_of_a_run_is_measured_without_downloads(trained):
    file = trained.run / "config.json"
    record = json.loads(file.read_text())
    record["config"]["model"]["weights"] = "pretrained"
    record["config"]["data"].update(download=True, split_file="elsewhere/split.csv")
    file.write_text(json.dumps(record))
    again = _offline_config(RunDir(trained.run), trained.run / "best.safetensors")
    assert again.model.weights == str(trained.run / "best.safetensors")
    assert again.data.data == str(trained.data)
    assert again.data.split_file == trained.run / "split.csv"
    assert not again.data.download
