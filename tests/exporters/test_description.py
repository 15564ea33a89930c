from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cnnkit.exporters.description import describe, steps
from cnnkit.exporters.onnx import onnx_exporter
from cnnkit.exporters.protocol import ExportOptions
from cnnkit.metrics.abstention import Abstention
from cnnkit.metrics.conformal import LabelSets

FILE: dict[str, Any] = {"file": "m.onnx", "sha256": "ab", "size": 7}


def test_the_document_holds_what_a_program_needs(make_model):
    header = make_model(classes=("ant", "Käfer")).header
    rules = {
        "abstention": Abstention(0.7, 0.02, 0.01, 0.95, 0.5, 500, 1, 1000, "val"),
        "label_sets": LabelSets(0.2, 0.95, 1000, "val"),
        "training": {"epoch": 3, "copyrights": ["a photographer"]},
    }
    document = json.loads(
        json.dumps(describe(header.model_copy(update=rules), ExportOptions(opset=18), onnx_exporter, **FILE), allow_nan=False)
    )
    assert document["classes"] == ["ant", "Käfer"]
    assert document["preprocessing"] == json.loads(header.preprocessing.model_dump_json())
    assert (document["temperature"], document["threshold"], document["label_sets"]["threshold"]) == (1.7, 0.7, 0.2)
    assert (document["sha256"], document["bytes"], document["opset"]) == ("ab", 7, 18)
    assert document["copyrights"] == ["a photographer"]
    assert "faces" not in document
    assert document["versions"]["cnnkit"]


def test_a_fixed_batch_is_the_first_dimension(make_model):
    for batch, first in ((0, "N"), (1, 1)):
        document = describe(make_model().header, ExportOptions("canvas"), replace(onnx_exporter, batch=batch), **FILE)
        assert document["input"]["shape"] == [first, 24, 24, 3]
        assert [output["shape"] for output in document["outputs"]] == [[first, 3], [first]]


def test_rules_that_are_not_set_are_null(make_model):
    document = describe(make_model().header, ExportOptions(), onnx_exporter, **FILE)
    assert (document["threshold"], document["abstention"], document["label_sets"], document["opset"]) == (None, None, None, None)


@pytest.mark.parametrize(
    ("options", "inside"),
    [
        (ExportOptions(), [False, True, True, True, True]),
        (ExportOptions("canvas"), [False, False, True, True, True]),
        (ExportOptions("float", "logits"), [False, False, False, True, False]),
    ],
)
def test_the_steps_say_which_of_them_the_file_takes(make_model, options, inside):
    found = steps(make_model(channels=1, resize_mode="pad", draft_side=360).header.preprocessing, options, 1.7)
    assert [step["inside"] for step in found] == inside
    words = " ".join(step["step"] for step in found)
    for number in ("360 px", "24 × 24 px", "level 114", "19595, 38470, 7471 / 65536", "[0.45]", "temperature 1.7", "1/32768"):
        assert number in words, number
