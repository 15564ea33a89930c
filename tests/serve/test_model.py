from __future__ import annotations

import shutil

import numpy as np
import pytest

from cnnkit.api.inference.target import Target
from cnnkit.errors import ModelFileError
from cnnkit.exporters.session_classifier import MAX_BATCH_PIXELS
from cnnkit.serve.inference_protocol import model_metadata
from cnnkit.serve.model import ServedModel, find_served


def test_a_run_stands_for_its_exported_file(old_run, colour_model, tmp_path, monkeypatch):
    run = tmp_path / "007-run"
    shutil.copytree(old_run, run)
    (run / "best.safetensors").write_bytes(b"weights")
    with pytest.raises(ModelFileError, match=r"has no export/model\.onnx; write it with: cnnkit export --onnx --model"):
        find_served(run)
    (run / "export").mkdir()
    shutil.copy(colour_model, run / "export" / "model.onnx")
    (tmp_path / "latest").symlink_to(run)
    monkeypatch.chdir(run)
    for given in (run, run / "export" / "model.onnx", ".", tmp_path / "latest"):
        target = find_served(given)
        assert target.path.samefile(run / "export" / "model.onnx")
        assert ServedModel(target).name == "007-run"


def test_a_model_file_is_refused_with_the_export_to_type(tmp_path):
    (tmp_path / "my model.safetensors").write_bytes(b"weights")
    with pytest.raises(ModelFileError, match=r"write one with: cnnkit export --onnx --model '.*my model\.safetensors' --out model\.onnx"):
        find_served(tmp_path / "my model.safetensors")


def test_a_file_has_its_own_name_and_its_batches(colour_model, write_model, tmp_path):
    model = ServedModel(Target(colour_model, None))
    assert (model.name, model.classes, model.max_batch) == ("colours", ("red", "green", "blue"), 64)
    assert model.max_pixels(50) == 50_000_000
    whole = ServedModel(Target(write_model(tmp_path / "whole.onnx", canvas=False), None))
    assert (whole.spec, whole.max_batch, whole.max_pixels(50)) == (None, 1, MAX_BATCH_PIXELS)
    images = [np.full((5, 4, 3), 7, np.uint8), np.full((2, 3, 3), (250, 0, 0), np.uint8)]
    assert whole.probabilities(images).argmax(1).tolist() == [0, 0]


OTHER = """
from cnnkit.exporters.protocol import Exporter
class Opened:
    classes = ("a", "b")
    def probabilities(self, images): return [[0.25, 0.75]] * len(images)
acme = Exporter("acme", "acme files", lambda model, path: None, lambda path: Opened())
"""


def test_a_file_of_another_exporter_is_served(install_package, tmp_path):
    install_package("acme-files", "acme", "acme_files:acme", OTHER, group="cnnkit.exporters")
    (tmp_path / "leaf.acme").write_text("weights")
    model = ServedModel(find_served(tmp_path / "leaf.acme"))
    assert (model.name, model.classes, model.spec, model.max_batch) == ("leaf", ("a", "b"), None, 1)
    assert model.probabilities([np.zeros((5, 4, 3), np.uint8)]).tolist() == [[0.25, 0.75]]
    assert model_metadata("leaf", model.classes, ".acme")["platform"] == "cnnkit_acme"


def test_predictions_of_a_batch_equal_those_of_one_image(colour_model):
    model = ServedModel(Target(colour_model, None))
    canvases = np.random.default_rng(0).integers(0, 255, (9, 3, 8, 8), np.uint8)
    alone = np.concatenate([model.probabilities([canvas]) for canvas in canvases])
    np.testing.assert_array_equal(model.probabilities(list(canvases)), alone)
