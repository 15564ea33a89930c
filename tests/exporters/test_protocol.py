from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cnnkit.errors import ConfigError
from cnnkit.exporters.onnx import onnx_exporter
from cnnkit.exporters.protocol import INPUTS, Exporter, ExportOptions, input_shape
from cnnkit.model.preprocessing import Preprocessing

NOTHING: Any = object()  # stands for a model and for a function that no test calls


@pytest.fixture
def plain() -> Exporter:
    """Return an exporter of the older form: a name, a summary and two functions."""
    return Exporter("leaf", "leaves", lambda _, path: path.write_text("leaf"), NOTHING)


@pytest.mark.parametrize(
    ("kind", "named", "shape"),
    [
        ("images", ["N", "H", "W", 3], ["N", "H", "W", 3]),
        ("canvas", ["N", "S", "S", "C"], ["N", 24, 24, 1]),
        ("float", ["N", "C", "S", "S"], ["N", 1, 24, 24]),
    ],
)
def test_a_kind_of_input_has_its_shape(kind, named, shape):
    assert input_shape(kind, None) == named
    assert input_shape(kind, Preprocessing(image_size=24, channels=1, mean=(0.5,), std=(0.5,))) == shape
    assert f"({', '.join(map(str, named))})" in INPUTS[kind]


def test_an_exporter_without_choices_gets_no_options(plain, tmp_path):
    assert (plain.suffix, plain.has_choices, plain.options()) == (".leaf", False, ExportOptions())
    plain.write_file(NOTHING, tmp_path / "m.leaf", plain.options())
    assert (tmp_path / "m.leaf").read_text() == "leaf"


def test_an_exporter_with_choices_gets_the_options(tmp_path):
    seen: list[object] = []
    lite = Exporter("lite", "", lambda *given: seen.extend(given), NOTHING, suffix=".tflite", inputs=("canvas",))
    lite.write_file(NOTHING, Path("x"), lite.options())
    assert (lite.suffix, seen) == (".tflite", [NOTHING, Path("x"), ExportOptions(input="canvas")])


def test_the_defaults_of_onnx_are_its_first_choices():
    assert onnx_exporter.options() == ExportOptions("images", "probabilities", half=False, opset=18)
    assert onnx_exporter.options(input="float", output="logits", half=True, opset=21) == ExportOptions(
        "float", "logits", half=True, opset=21
    )


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"input": "canvs"}, "--input canvs: no such kind; did you mean 'canvas'? Allowed: images, canvas, float"),
        ({"output": "logit"}, "--output logit: no such kind; did you mean 'logits'? Allowed: probabilities, logits"),
        ({"input": "canvas"}, "--input canvas: the exporter 'leaf' writes images only; leave out --input"),
        ({"output": "logits"}, "--output logits: the exporter 'leaf' writes probabilities only; leave out --output"),
        ({"half": True}, "--half: the exporter 'leaf' has no computation in 16 bits; leave out --half"),
        ({"opset": 18}, "--opset 18: the exporter 'leaf' writes files without opsets; leave out --opset"),
    ],
)
def test_a_choice_that_the_format_lacks_is_an_error(plain, choice, message):
    with pytest.raises(ConfigError) as caught:
        plain.options(**choice)
    assert str(caught.value) == message


def test_an_opset_outside_the_range_is_an_error():
    with pytest.raises(ConfigError, match="--opset 12: the exporter 'onnx' writes opsets 18 to 21; leave out --opset"):
        onnx_exporter.options(opset=12)
