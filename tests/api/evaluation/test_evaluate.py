from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import cnnkit
from cnnkit.errors import CheckFailedError
from cnnkit.metrics.intervals import Estimate
from cnnkit.model.tta import PLAIN_VIEW, Views


def test_tta_averages_over_views_and_has_a_folder_apart(trained):
    plain, several = cnnkit.evaluate(trained.run), cnnkit.evaluate(trained.run, tta=True)
    assert (plain.views, several.views) == (PLAIN_VIEW, Views("h", 1))
    assert plain.heading == ""
    assert plain.paths == several.paths
    assert 1e-5 < np.abs(plain.probabilities - several.probabilities).max() < 1
    assert several.folder == trained.run / "eval/test-tta"
    assert several.opened == 2


def test_min_accuracy_names_the_measured_accuracy_and_the_limit(trained):
    found = cnnkit.evaluate(trained.run)
    accuracy = Estimate(0.5, 0.2, 0.8)
    found = replace(found, report=replace(found.report, accuracy=accuracy))
    with pytest.raises(CheckFailedError) as missed:
        found.require_accuracy(0.9)
    measured = "the accuracy is 0.5000 (95 % interval 0.2000 to 0.8000, 9 test images)"
    assert str(missed.value) == f"{measured}; --min-accuracy asks for at least 0.9"
    assert missed.value.exit_code == 1
    assert found.require_accuracy(0.1) == f"{measured}; --min-accuracy 0.1 is met"
    assert found.require_accuracy(0.5).endswith("is met, but the interval begins below it: other images may give less")
