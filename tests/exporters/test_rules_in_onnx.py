from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from cnnkit.api.inference.drift import DriftWatch, take_fingerprint
from cnnkit.api.inference.predict import predictions
from cnnkit.data.appearance import appearance
from cnnkit.errors import ModelFileError
from cnnkit.exporters.onnx import OnnxClassifier
from cnnkit.exporters.onnx_graph import metadata
from cnnkit.exporters.parity import sample_photos
from cnnkit.metrics.abstention import Abstention
from cnnkit.metrics.conformal import LabelSets
from cnnkit.model.classifier import rules_of
from cnnkit.model.file import Model
from cnnkit.model.rules import Rules
from cnnkit.model.torch_classifier import TorchClassifier


def with_metadata(exported: Path, path: Path, **changed: str) -> Path:
    """Write a copy of an exported file with other metadata, which is faster than a new export."""
    proto = onnx.load(exported)
    known = {entry.key: entry.value for entry in proto.metadata_props}
    onnx.helper.set_model_props(proto, {**known, **changed})
    onnx.save(proto, path)
    return path


@pytest.fixture
def ruled(model) -> Model:
    """Return `model` with all three rules; it abstains on about half of the sample photographs."""
    photos = sample_photos(10)
    classifier = TorchClassifier(model)
    probabilities = classifier.probabilities(photos)
    rules = Rules(
        abstention=Abstention(float(np.median(probabilities.max(1))) + 1e-4, 0.02, 0.01, 0.95, 0.5, 500, 1, 1000, "val"),
        label_sets=LabelSets(0.2, 0.95, 1000, "val"),
        fingerprint=take_fingerprint(appearance(classifier.canvases(photos).numpy()), probabilities, split="val"),
    )
    return Model(model.module, model.header.model_copy(update={name: getattr(rules, name) for name in rules.model_fields_set}), model.path)


def test_the_metadata_hold_the_rules_as_json(ruled, model):
    held = metadata(ruled.header)
    assert json.loads(held["abstention"])["threshold"] == ruled.header.abstention.threshold
    assert {"abstention", "label_sets", "fingerprint"} <= set(held)
    assert {"abstention", "label_sets", "fingerprint"}.isdisjoint(metadata(model.header))


def test_the_exported_file_applies_the_same_rules_as_the_model(ruled, exported, tmp_path):
    files = [tmp_path / f"{index:02d}.png" for index in range(40)]
    for file, photo in zip(files, sample_photos(40), strict=True):
        Image.fromarray(photo).save(file)
    onnx_file = OnnxClassifier(with_metadata(exported, tmp_path / "m.onnx", **metadata(ruled.header)))
    assert rules_of(onnx_file).abstention == ruled.header.abstention
    watches = DriftWatch(), DriftWatch()
    pair = [list(predictions(each, files, watch)) for each, watch in zip((onnx_file, TorchClassifier(ruled)), watches, strict=True)]
    assert {prediction.abstained for prediction in pair[0]} == {True, False}
    for ours, theirs in zip(*pair, strict=True):
        assert (ours.abstained, ours.label_set, ours.top(1)[0][0]) == (theirs.abstained, theirs.label_set, theirs.top(1)[0][0])
    found = [watch.result() for watch in watches]
    shifts = [{shift.feature: shift.distance for shift in drift.shifts} for drift in found if drift]
    assert shifts[0] == pytest.approx(shifts[1], abs=0.03)  # a probability at the edge of a bin may fall into either


def test_a_file_without_rules_never_abstains(exported, model, tmp_path):
    Image.fromarray(sample_photos(1)[0]).save(tmp_path / "a.png")
    (prediction,) = predictions(OnnxClassifier(exported), [tmp_path / "a.png"])
    assert (prediction.abstained, prediction.label_set) == (False, None)
    assert rules_of(OnnxClassifier(exported)) == Rules(temperature=1.7, calibration=model.header.calibration)


def test_unreadable_rules_are_an_error(exported, tmp_path):
    path = with_metadata(exported, tmp_path / "m.onnx", abstention='{"threshold": "high"}')
    with pytest.raises(ModelFileError, match=r"m\.onnx: this version of cnnkit cannot read its metadata .*; export the model again$"):
        OnnxClassifier(path)
