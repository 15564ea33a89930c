from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import cnnkit
from cnnkit.errors import CheckFailedError
from cnnkit.metrics.intervals import Estimate
from cnnkit.model.tta import PLAIN_VIEW, Views


def test_views_are_asked_for_by_name_and_change_the_answers(trained):
    plain, several = cnnkit.evaluate(trained.run), cnnkit.evaluate(trained.run, tta=True)
    assert (plain.views, several.views) == (PLAIN_VIEW, Views("h", 1))
    assert plain.heading == ""
    assert plain.paths == several.paths
    assert 1e-5 < np.abs(plain.probabilities - several.probabilities).max() < 1
    assert several.folder == trained.run / "eval/test-tta"
    assert several.opened == 2


def test_a_gate_says_what_was_measured_and_what_was_asked(trained):
    found = cnnkit.evaluate(trained.run)
    accuracy = Estimate(0.5, 0.2, 0.8)
    found = replace(found, report=replace(found.report, accuracy=accuracy))
    with pytest.raises(CheckFailedError) as missed:
        found.require_accuracy(0.9)
    measured = "the accuracy is 0.5000 (95 % interval 0.2000 to 0.8000, 11 test images)"
    assert str(missed.value) == f"{measured}, and --min-accuracy asks for 0.9"
    assert missed.value.exit_code == 1
    assert found.require_accuracy(0.1) == f"{measured}; --min-accuracy 0.1 is met"
    assert found.require_accuracy(0.5).endswith("is met, though the interval begins below: other images may give less")
