"""Tests of the plugin: its files predict as their model does, hold all facts, need no torch, and others are refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cnnkit_litert
import numpy as np
import pytest
import torch
from cnnkit_litert import LitertClassifier, litert
from torch import nn

from cnnkit import CnnkitError
from cnnkit.api.plugins.check import check_plugin
from cnnkit.cli.app import main
from cnnkit.errors import ModelFileError
from cnnkit.exporters.opening import is_exported, load_exporter, open_classifier
from cnnkit.exporters.parity import HALF_TOLERANCE, sample_photos
from cnnkit.model.classifier import CanvasClassifier
from cnnkit.model.file import Model, load_model
from cnnkit.model.header import ModelHeader
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.torch_classifier import TorchClassifier
from cnnkit.serve.model import ServedModel, find_served

PARITY = 1e-5
TRAIN = ("train", "--data", "digits", "--set", "width=4", "--set", "blocks=2", "--set", "dense=16", "--epochs", "1", "--precision", "fp32")
HEADER = ModelHeader(
    arch="tiny",
    options={},
    classes=("ant", "bee", "Käfer"),
    preprocessing=Preprocessing(image_size=24, channels=1, resize_mode="pad", mean=(0.4,), std=(0.3,)),
    temperature=1.7,
)


def tiny(module: nn.Module | None = None) -> Model:
    """Return a model of gray images in gray 24 px canvases."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.SiLU(), module or nn.Identity(), nn.Flatten())
    return Model(nn.Sequential(network, nn.Linear(8 * 11 * 11, 3)).eval(), HEADER, Path("best.safetensors"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file ``model.tflite`` of a run of one epoch on the digits."""
    runs = tmp_path_factory.mktemp("trained")
    assert main([*TRAIN, "--out", str(runs)]) == 0
    run = runs / "001-custom-cnn"
    assert main(["export", "--to", "litert", "--model", str(run)]) == 0
    return run / "export" / "model.tflite"


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of `tiny`."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.tflite"
    litert.write_file(tiny(), path, litert.options())
    return path


def without_facts(source: Path, path: Path) -> Path:
    """Write the file `source` without the zip behind the model, as litert-torch leaves it."""
    with zipfile.ZipFile(source) as archive:
        first = min(member.header_offset for member in archive.infolist())
    path.write_bytes(source.read_bytes()[:first])
    return path


def refusal(path: Path, capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(ModelFileError) as caught:
        LitertClassifier(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith("; write one with: cnnkit export --to litert")
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")
    return message


def test_the_exporter_keeps_the_contract() -> None:
    report = check_plugin("litert", "cnnkit.exporters")
    assert not report.failed, report.results
    assert "export" in [result.check for result in report.results]


def test_cnnkit_finds_the_exporter_by_name_and_suffix() -> None:
    assert load_exporter("litert").suffix == ".tflite"
    assert is_exported(Path("model.tflite"))


def test_an_export_prints_its_own_lines_alone(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = exported.parents[1]
    assert main(["export", "--to", "litert", "--model", str(run)]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[0].startswith(f"{exported}  ")
    assert "top-1 agreement 100.00 %" in out
    assert [line.split()[0] for line in err.splitlines()] == ["loading", "writing", "comparing"], err


def test_the_file_predicts_as_its_model_in_every_command(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run, photos = exported.parents[1], sample_photos(6)
    expected = TorchClassifier(load_model(run / "best.safetensors")).probabilities(photos)
    found = open_classifier(exported)
    assert found.classes == tuple(map(str, range(10)))
    assert np.abs(found.probabilities(photos) - expected).max() <= PARITY
    certificate = json.loads((exported.parent / "model-tflite-parity.json").read_text("utf-8"))
    assert certificate["max_abs_probability_difference"] <= PARITY
    assert {"batch of 1", "batch of 2", "batch of 7"} <= certificate["hard_images"].keys()
    capfd.readouterr()
    documents: list[dict[str, Any]] = []
    for model in (exported, run):
        assert main(["eval", "--model", str(model), "--json"]) == 0
        documents.append(json.loads(capfd.readouterr().out))
    assert documents[0]["accuracy"] == documents[1]["accuracy"]
    assert main(["benchmark", "--model", str(exported), "--seconds", "0.2", "--json"]) == 0
    [speed] = json.loads(capfd.readouterr().out)["models"]
    assert speed["format"] == "tflite"


def test_predict_loads_neither_torch_nor_the_converter(exported: Path) -> None:
    photo = exported.parent / "model-tflite-golden" / "photo.jpg"
    lines = f"from cnnkit.cli.app import main\nassert main(['predict', {str(photo)!r}, '--model', {str(exported)!r}]) == 0"
    script = f"import sys\n{lines}\nprint('LOADED', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=exported.parent)
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "ai_edge_litert.interpreter" in loaded
    assert not {"torch", "litert_torch", "jax", "onnxruntime"} & loaded
    assert "XNNPACK" not in done.stderr


def test_the_script_needs_neither_cnnkit_nor_torch(exported: Path) -> None:
    script = exported.parent / "model-tflite-infer.py"
    assert len(script.read_text("utf-8").splitlines()) <= 30
    without = "import runpy, sys\nsys.modules['cnnkit'] = sys.modules['torch'] = None\ndel sys.argv[0]\n"
    alone = "runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", without + alone, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3


def test_the_files_beside_it_describe_one_canvas(exported: Path) -> None:
    document = json.loads((exported.parent / "model-tflite.json").read_text("utf-8"))
    size = document["preprocessing"]["image_size"]
    assert document["input"]["shape"] == [1, size, size, 3]
    assert (document["exporter"], document["file"], document["opset"]) == ("litert", "model.tflite", None)
    with zipfile.ZipFile(exported) as archive:
        assert archive.read("labels.txt").decode().split() == list(map(str, range(10)))
        assert json.loads(json.loads(archive.read("cnnkit.json"))["classes"]) == document["classes"]


def test_the_file_takes_canvases_and_is_served(exported: Path) -> None:
    found = open_classifier(exported)
    assert isinstance(found, CanvasClassifier)
    assert found.canvas_spec is not None
    served = ServedModel(find_served(exported))
    size = found.canvas_spec.image_size
    canvases = np.random.default_rng(0).integers(0, 256, (3, 3, size, size), np.uint8)
    np.testing.assert_allclose(served.probabilities(list(canvases)), found.predict_canvases(canvases), rtol=0, atol=PARITY)


def test_gray_images_and_rules_pass_through_the_file(tiny_file: Path) -> None:
    photos = sample_photos(5)
    expected = TorchClassifier(tiny()).probabilities(photos)
    found = LitertClassifier(tiny_file)
    assert (found.classes, found.rules.temperature, found.preprocessing) == (HEADER.classes, 1.7, HEADER.preprocessing)
    assert np.abs(found.probabilities(photos) - expected).max() <= PARITY
    assert found.probabilities([]).shape == (0, 3)


def test_normalised_images_and_logits(tmp_path: Path) -> None:
    photos = sample_photos(5)
    litert.write_file(tiny(), tmp_path / "m.tflite", litert.options(input="float", output="logits"))
    expected = TorchClassifier(tiny()).probabilities(photos)
    assert np.abs(LitertClassifier(tmp_path / "m.tflite").probabilities(photos) - expected).max() <= PARITY


def test_weights_in_16_bits_take_less_room(tiny_file: Path, tmp_path: Path) -> None:
    path, photos = tmp_path / "m.tflite", sample_photos(5)
    litert.write_file(tiny(), path, litert.options(half=True))
    expected = TorchClassifier(tiny()).probabilities(photos)
    differences = np.abs(LitertClassifier(path).probabilities(photos) - expected)
    assert PARITY < differences.max() <= HALF_TOLERANCE
    weights = sum(parameter.numel() for parameter in tiny().module.parameters())
    assert tiny_file.stat().st_size - path.stat().st_size > weights


def test_the_same_model_results_in_the_same_bytes(tiny_file: Path, tmp_path: Path) -> None:
    litert.write_file(tiny(), tmp_path / "again.tflite", litert.options())
    assert (tmp_path / "again.tflite").read_bytes() == tiny_file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.tflite"]


class Bessel(nn.Module):
    """An operation that LiteRT lacks."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return a Bessel function of the images."""
        return torch.special.modified_bessel_k1(images)


class Branch(nn.Module):
    """A branch on a value, which cannot be traced."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images, or their negatives."""
        return images if images.sum() > 0 else -images


@pytest.mark.parametrize("module", [Bessel(), Branch()], ids=["Bessel", "Branch"])
def test_a_network_that_cannot_be_converted_is_refused_in_one_sentence(
    module: nn.Module, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CnnkitError, match=r"best\.safetensors: litert-torch .* cannot convert the architecture 'tiny' \(.+\)") as caught:
        litert.write_file(tiny(module), tmp_path / "m.tflite", litert.options())
    assert str(caught.value).endswith("; type: cnnkit export --onnx")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_without_the_converter_the_error_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cnnkit_litert, "find_spec", lambda _: None)
    with pytest.raises(CnnkitError, match=r"litert-torch writes \.tflite files, and is not installed; type: pip install 'litert-torch"):
        litert.write_file(tiny(), tmp_path / "m.tflite", litert.options())


def test_a_missing_file_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in refusal(tmp_path / "model.tflite", capfd)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x1c\x00\x00\x00TFL3" + bytes(100)], ids=["empty", "text", "only the start"])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    assert "not a .tflite file that ai-edge-litert" in refusal(path, capfd)


def test_half_a_file_is_refused(tiny_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "half.tflite"
    path.write_bytes(tiny_file.read_bytes()[: tiny_file.stat().st_size // 2])
    assert "not a .tflite file that ai-edge-litert" in refusal(path, capfd)


def test_a_file_of_another_tool_is_refused(tiny_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    message = refusal(without_facts(tiny_file, tmp_path / "other.tflite"), capfd)
    assert "a .tflite file that cnnkit export did not write: its metadata names no 'classes'" in message


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"classes": '["a", "b"]'}, "its metadata names 2 classes, its output has 3"),
        ({"input": "float"}, "expected 'float' tensor(float)"),
        ({"preprocessing": HEADER.preprocessing.model_copy(update={"image_size": 25}).model_dump_json()}, "its preprocessing makes"),
    ],
)
def test_facts_that_do_not_fit_the_model_are_refused(
    facts: dict[str, str], problem: str, tiny_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = without_facts(tiny_file, tmp_path / "m.tflite")
    with zipfile.ZipFile(tiny_file) as archive:
        known = json.loads(archive.read("cnnkit.json"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("cnnkit.json", json.dumps(known | facts))
    assert problem in refusal(path, capfd)


def test_the_suffix_has_no_case(tiny_file: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_file, tmp_path / "MODEL.TFLITE")
    assert open_classifier(tmp_path / "MODEL.TFLITE").classes == HEADER.classes
