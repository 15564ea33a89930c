from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cnnkit.errors import ConfigError, ModelFileError, PluginError
from cnnkit.exporters.opening import is_exported, load_exporter, open_classifier
from cnnkit.exporters.parity import sample_photos
from cnnkit.model.classifier import CanvasClassifier
from cnnkit.model.file import Model, ModelHeader, save_model
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.torch_classifier import TorchClassifier
from cnnkit.registry import load_architecture

HEADER = ModelHeader(
    arch="custom-cnn",
    options={"width": 4, "blocks": 2},
    classes=("ant", "bee", "wasp"),
    preprocessing=Preprocessing(image_size=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)),
    temperature=0.5,
)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    network = load_architecture("custom-cnn")[0].build(3, 3, **HEADER.options)
    return Model(network, HEADER, Path("best.safetensors"))


def test_a_model_file_is_opened_as_a_torch_classifier(model, tmp_path):
    path = tmp_path / "best.safetensors"
    save_model(path, model.module, HEADER)
    opened = open_classifier(path)
    assert isinstance(opened, TorchClassifier)
    assert opened.classes == ("ant", "bee", "wasp")
    photos = sample_photos(3)
    np.testing.assert_array_equal(opened.probabilities(photos), TorchClassifier(model).probabilities(photos))


@pytest.mark.parametrize("name", ["model.onnx", "MODEL.ONNX"])
def test_the_exporter_opens_its_exported_file(tmp_path, name):
    (tmp_path / name).write_text("no graph")
    with pytest.raises(ModelFileError, match="not an ONNX file that onnxruntime"):
        open_classifier(tmp_path / name)


def test_a_file_of_another_format_is_refused(tmp_path):
    (tmp_path / "model.h5").write_bytes(b"\x89HDF")
    with pytest.raises(ModelFileError, match=r"model\.h5: not a cnnkit model file"):
        open_classifier(tmp_path / "model.h5")


LITE = """
from cnnkit.exporters.protocol import Exporter
class Opened:
    classes = ("a", "b")
    def probabilities(self, images): return [[0.5, 0.5]] * len(images)
lite = Exporter("lite", "lite files", lambda model, path, options: path.write_text(options.input), lambda path: Opened(),
                suffix=".tflite", inputs=("canvas",))
"""


CANVASES = """
import numpy as np
from cnnkit.exporters.protocol import Exporter
from cnnkit.model.preprocessing import Preprocessing
class Opened:
    classes = ("a", "b")
    canvas_spec = Preprocessing(image_size=8, mean=(0.5,), std=(0.5,))
    def probabilities(self, images): return [[0.5, 0.5]] * len(images)
    def predict_canvases(self, canvases): return np.tile(canvases[:, :2, 0, 0] / 10, 1)
lite = Exporter("lite", "lite files", lambda model, path: None, lambda path: Opened(), suffix=".tflite")
"""


def test_canvases_reach_the_classifier_of_another_package_behind_the_fence(install_package, tmp_path):
    install_package("acme-lite", "lite", "acme_lite:lite", CANVASES, group="cnnkit.exporters")
    opened = open_classifier(tmp_path / "m.tflite")
    assert isinstance(opened, CanvasClassifier)
    assert opened.canvas_spec is not None
    canvases = np.full((3, 3, 8, 8), 5, np.uint8)
    np.testing.assert_array_equal(opened.predict_canvases(canvases), [[0.5, 0.5]] * 3)
    with pytest.raises(PluginError, match=r"'lite' of acme-lite .* predicts \(3, 2\); expected probabilities .* add up to 1"):
        opened.predict_canvases(canvases + np.uint8(1))


def test_a_classifier_without_canvases_takes_none(install_package, tmp_path):
    install_package("acme-lite", "lite", "acme_lite:lite", LITE, group="cnnkit.exporters")
    opened = open_classifier(tmp_path / "m.tflite")
    assert isinstance(opened, CanvasClassifier)
    assert opened.canvas_spec is None
    with pytest.raises(TypeError, match="takes no canvases"):
        opened.predict_canvases(np.zeros((1, 3, 8, 8), np.uint8))


def test_the_suffix_of_an_exporter_opens_its_files(install_package, model, tmp_path):
    install_package("acme-lite", "lite", "acme_lite:lite", LITE, group="cnnkit.exporters")
    assert is_exported(tmp_path / "m.tflite")
    assert not is_exported(tmp_path / "m.lite")
    found = load_exporter("lite")
    found.write_file(model, tmp_path / "m.tflite", found.options())
    assert (tmp_path / "m.tflite").read_text() == "canvas"
    assert open_classifier(tmp_path / "m.tflite").classes == ("a", "b")
    with pytest.raises(ConfigError, match="--input images: the exporter 'lite' writes canvas only"):
        found.options(input="images")
