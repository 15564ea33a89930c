from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnkit.data.image import decode_image
from cnnkit.exporters.onnx import OnnxClassifier, onnx_exporter
from cnnkit.exporters.sidecars import Sidecars, write_sidecars
from cnnkit.files import fingerprint
from cnnkit.model.torch_classifier import TorchClassifier

# Neither cnnkit nor torch can be imported, as in an environment without them.
ALONE = """
import runpy, sys
sys.modules["cnnkit"] = sys.modules["torch"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_alone(script: Path, *images: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", ALONE, script, *images], capture_output=True, text=True, check=False)


@pytest.fixture
def written(exported_kind, model, tmp_path):
    """Return a function that copies the exported file of some options, and writes the files beside it."""

    def write(name: str = "model.onnx", **choices) -> Sidecars:
        path = tmp_path / name
        path.write_bytes(exported_kind(**choices).read_bytes())
        options = onnx_exporter.options(**choices)
        return write_sidecars(path, model.header, onnx_exporter, options, OnnxClassifier(path), decode_image, {"n": 3})

    return write


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("model.onnx", ["model.json", "parity.json", "golden", "infer.py"]),
        ("leaf.onnx", ["leaf.json", "leaf-parity.json", "leaf-golden", "leaf-infer.py"]),
        ("model.tflite", ["model-tflite.json", "model-tflite-parity.json", "model-tflite-golden", "model-tflite-infer.py"]),
    ],
)
def test_files_of_other_names_keep_theirs_apart(file, names):
    found = Sidecars(Path(file))
    assert [path.name for path in (found.description, found.parity, found.golden, found.script)] == names


KINDS = [{}, {"input": "canvas"}, {"input": "float", "output": "logits"}]


@pytest.mark.parametrize("choices", KINDS, ids=str)
def test_the_script_prints_the_golden_predictions_without_cnnkit_and_torch(written, model, choices):
    found = written(**choices)
    done = run_alone(found.script)
    assert done.returncode == 0, done.stderr
    golden = json.loads((found.golden / "golden.json").read_text("utf-8"))["images"]
    photos = [decode_image((found.golden / image["file"]).read_bytes()) for image in golden]
    expected = TorchClassifier(model).probabilities(photos)
    for line, row, image in zip(done.stdout.splitlines(), expected, golden, strict=True):
        path, label, *numbers = line.split()
        assert (Path(path).name, label) == (image["file"], model.header.classes[row.argmax()])
        np.testing.assert_allclose([float(number) for number in numbers], row, rtol=0, atol=1e-5)
        np.testing.assert_allclose(image["probabilities"], row, rtol=0, atol=1e-5)


def test_the_script_classifies_other_images_and_sees_a_changed_file(written):
    found = written("leaf.onnx")
    assert run_alone(found.script, found.golden / "small.png").stdout.startswith(str(found.golden / "small.png"))
    text = (found.golden / "golden.json").read_text("utf-8")
    golden = json.loads(text)
    golden["images"][0]["probabilities"].reverse()
    (found.golden / "golden.json").write_text(json.dumps(golden), "utf-8")
    done = run_alone(found.script)
    assert done.returncode == 1
    assert "AssertionError: golden.json has" in done.stderr


def test_the_raw_bytes_are_the_decoded_images(written):
    found = written(input="canvas")
    for image in json.loads((found.golden / "golden.json").read_text("utf-8"))["images"]:
        pixels = np.frombuffer((found.golden / image["pixels"]).read_bytes(), np.uint8).reshape(image["height"], image["width"], 3)
        np.testing.assert_array_equal(pixels, decode_image((found.golden / image["file"]).read_bytes()))
        assert (found.golden / image["canvas"]).stat().st_size == 24 * 24 * 3


def test_another_input_leaves_no_canvases_behind(written):
    found = written(input="canvas")
    assert len(list(found.golden.glob("*.canvas"))) == 3
    written()
    assert not list(found.golden.glob("*.canvas"))
    assert len(list(found.golden.iterdir())) == 7


def test_the_description_belongs_to_the_file(written, model):
    found = written(input="float", output="logits")
    document = json.loads(found.description.read_text("utf-8"))
    assert (document["file"], document["sha256"]) == ("model.onnx", fingerprint(found.file))
    assert document["input"]["shape"] == ["N", 3, 24, 24]
    assert document["classes"] == list(model.header.classes)
    assert json.loads(found.parity.read_text("utf-8")).items() >= {"n": 3, "sha256": fingerprint(found.file), "input": "float"}.items()
