from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

from cnnkit.metrics.abstention import Abstention
from cnnkit.metrics.conformal import LabelSets
from cnnkit.metrics.drift import compare, fingerprint
from cnnkit.model.file import ModelHeader
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.rules import Rules, from_metadata, to_metadata

VALUES, PREDICTED = np.random.default_rng(0).random((40, 2)), np.arange(40) % 3
RULES = Rules(
    abstention=Abstention(0.7, 0.02, 0.019, 0.95, 0.6, 600, 5, 1000, "val"),
    label_sets=LabelSets(0.1, 0.95, 1000, "val"),
    fingerprint=fingerprint(("brightness", "confidence"), VALUES, PREDICTED, 3, split="val"),
)
HEADER = ModelHeader(
    arch="tiny", options={}, classes=("ant", "bee", "wasp"), preprocessing=Preprocessing(image_size=8, mean=(0.5,), std=(1,))
)


def test_a_header_restores_its_rules():
    header = HEADER.model_copy(update=dict(RULES))
    again = ModelHeader.model_validate_json(header.model_dump_json())
    assert (again.abstention, again.label_sets, again.fingerprint) == (RULES.abstention, RULES.label_sets, RULES.fingerprint)
    assert again == header
    assert again.fingerprint is not None
    assert compare(again.fingerprint, VALUES, PREDICTED).shifts[0].distance < 1e-12  # the same images: no histogram has moved


def test_headers_of_older_versions_have_no_rules():
    old = {name: value for name, value in json.loads(HEADER.model_dump_json()).items() if name not in Rules.model_fields}
    header = ModelHeader.model_validate(old)
    assert (header.abstention, header.label_sets, header.fingerprint) == (None, None, None)


def test_metadata_hold_and_restore_only_the_rules_that_are_set():
    metadata = to_metadata(HEADER.model_copy(update=dict(RULES)))
    assert set(metadata) == {"temperature", "abstention", "label_sets", "fingerprint"}
    assert json.loads(metadata["abstention"])["threshold"] == 0.7
    assert from_metadata({**metadata, "classes": "[]"}) == RULES
    assert to_metadata(HEADER) == {"temperature": "1.0"}
    assert from_metadata({"classes": "[]"}) == Rules()


@pytest.mark.parametrize("text", ["no JSON", '{"threshold": 0.5}', '{"threshold": "high"}'])
def test_unreadable_metadata_are_an_error(text):
    with pytest.raises(ValueError):  # noqa: PT011 (the text is JSON's or pydantic's)
        from_metadata({"abstention": text})


def test_rules_of_a_newer_cnnkit_are_refused():
    with pytest.raises(ValidationError, match="Extra inputs"):
        Rules.model_validate({"refusal": {}})
