from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from cnnkit.errors import ModelFileError
from cnnkit.exporters import onnx_graph as exporter
from cnnkit.exporters.onnx import OnnxClassifier
from cnnkit.exporters.onnx_graph import write_onnx
from cnnkit.exporters.parity import check_parity, sample_photos
from cnnkit.model.torch_classifier import TorchClassifier

SIZES = [(1, 1), (7, 5), (24, 24), (23, 25), (375, 500), (1000, 700)]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_inputs_and_outputs_follow_the_contract(exported):
    session = onnxruntime.InferenceSession(exported)
    assert [(node.name, node.type, node.shape) for node in session.get_inputs()] == [("images", "tensor(uint8)", ["N", "H", "W", 3])]
    assert [(node.name, node.type, node.shape) for node in session.get_outputs()] == [
        ("probabilities", "tensor(float)", ["N", 3]),
        ("labels", "tensor(int64)", ["N"]),
    ]


def test_the_metadata_agree_with_the_model_file(exported, model):
    found = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    assert json.loads(found["classes"]) == ["ant", "bee", "Käfer"]
    assert json.loads(found["preprocessing"]) == model.header.preprocessing.model_dump(mode="json")
    assert float(found["temperature"]) == 1.7
    assert json.loads(found["calibration"]) == model.header.calibration.to_dict()
    assert json.loads(found["training"]) == {"epoch": 3, "monitor": "val_loss"}
    assert (found["arch"], found["cnnkit_version"]) == ("tiny", version("cnnkit"))


def test_the_opened_file_has_the_temperature_and_its_calibration(exported, model):
    opened = OnnxClassifier(exported)
    assert (opened.rules.temperature, opened.rules.calibration) == (1.7, model.header.calibration)


@pytest.mark.parametrize("temperature", [0.15, 8.0])
def test_a_temperature_far_from_one_survives(make_model, tmp_path, temperature):
    model = make_model(temperature=temperature)
    write_onnx(model, tmp_path / "m.onnx")
    parity = check_parity(TorchClassifier(model), OnnxClassifier(tmp_path / "m.onnx"), sample_photos(30))
    assert parity.max_abs_probability_difference < 1e-4
    plain = TorchClassifier(make_model(temperature=1.0)).probabilities(sample_photos(30)).max(1).mean()
    shown = OnnxClassifier(tmp_path / "m.onnx").probabilities(sample_photos(30)).max(1).mean()
    assert shown > plain + 0.01 if temperature < 1 else shown < plain - 0.01


def test_the_export_is_one_valid_file_without_paths_of_the_machine(exported):
    onnx.checker.check_model(str(exported), full_check=True)
    assert [file.name for file in exported.parent.iterdir()] == ["model.onnx"]
    content = exported.read_bytes()
    assert b".py" not in content
    assert b"stack_trace" not in content


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 5])
def test_the_file_accepts_any_number_of_images_of_any_size(exported, model, size, count):
    images = noise(count, *size)
    outputs = onnxruntime.InferenceSession(exported).run(None, {"images": images})
    probabilities, labels = map(np.asarray, outputs)
    expected = TorchClassifier(model).probabilities(list(images))
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)
    assert labels.tolist() == expected.argmax(1).tolist()
    assert probabilities.dtype == np.float32


def test_the_model_under_test_predicts_every_class(model):
    probabilities = TorchClassifier(model).probabilities(sample_photos(40))
    assert set(probabilities.argmax(1)) == {0, 1, 2}
    assert probabilities.std(0).min() > 0.05


def test_a_script_without_cnnkit_gets_the_same_predictions(exported, model, tmp_path):
    np.save(tmp_path / "image.npy", sample_photos(1)[0])
    script = """
import json, sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
probabilities, labels = session.run(["probabilities", "labels"], {"images": numpy.load("image.npy")[None]})
assert not {"cnnkit", "torch"} & sys.modules.keys()
print(ascii(classes[labels[0]]), *probabilities[0])
"""
    done = subprocess.run([sys.executable, "-c", script, exported], capture_output=True, text=True, check=True)
    top, *probabilities = done.stdout.split()
    expected = TorchClassifier(model).probabilities(sample_photos(1))[0]
    assert top == ascii(model.header.classes[expected.argmax()])
    np.testing.assert_allclose([float(p) for p in probabilities], expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_an_export_is_repeatable_and_does_not_change_the_model(exported, model, tmp_path, capfd):
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    write_onnx(model, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    assert capfd.readouterr() == ("", "")


CASES = [(mode, way, channels) for mode in ("crop", "pad", "squash") for way in ("bilinear", "bicubic") for channels in (1, 3)]
FAST = [("pad", "bicubic", 1)]


@pytest.mark.parametrize(
    ("mode", "interpolation", "channels"), [pytest.param(*case, marks=() if case in FAST else pytest.mark.slow) for case in CASES]
)
def test_every_preprocessing_survives_the_translation(make_model, tmp_path, mode, interpolation, channels):
    model = make_model(resize_mode=mode, interpolation=interpolation, channels=channels, crop=0.9)
    write_onnx(model, tmp_path / "m.onnx")
    images = [*sample_photos(10), *(noise(*size) for size in SIZES)]
    parity = check_parity(TorchClassifier(model), OnnxClassifier(tmp_path / "m.onnx"), images)
    assert parity.max_abs_probability_difference < 1e-5  # the pixels are equal, only sums in the network differ
    assert parity.top1_agreement == 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["crop", "pad"])
def test_pixels_are_bit_equal(make_model, tmp_path, mode):
    """The logits are two pixels, so a difference of one level is visible."""
    pick = nn.Sequential(nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten())
    model = make_model(image_size=2, resize_mode=mode, channels=1, mean=(0.0,), std=(1.0,), classes=("a", "b"), interpolation="bicubic")
    write_onnx(replace(model, module=pick), tmp_path / "m.onnx")
    images = sample_photos(60)
    ours = TorchClassifier(replace(model, module=pick)).probabilities(images)
    np.testing.assert_allclose(OnnxClassifier(tmp_path / "m.onnx").probabilities(images), ours, rtol=0, atol=1.2e-7)  # a level: 6e-4


def test_weights_that_exceed_one_file_are_refused_before_the_export(model, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "MAX_WEIGHT_BYTES", 1000)
    with pytest.raises(ModelFileError, match=r"best\.safetensors: its weights take 0\.0 GiB; one ONNX file holds at most 2 GiB"):
        write_onnx(model, tmp_path / "m.onnx")


@pytest.fixture
def networks(monkeypatch):
    """Return the script of docs/benchmarks that measures varied networks."""
    folder = Path(__file__).resolve().parents[2] / "docs/benchmarks"
    monkeypatch.syspath_prepend(folder)  # for its module `document`
    spec = importlib.util.spec_from_file_location("benchmark_of_exports", folder / "exports.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("resnet18", "images"), ("mobilenetv3_small_100", "canvas"), ("vit_tiny_patch16_224", "float")])
def test_networks_of_timm_pass_the_certificate(networks, name, kind):
    found = networks.measure(name, networks.NETWORKS[name], kind)
    assert found["passed"], found["reason"]
    assert found["spread"] > 1
