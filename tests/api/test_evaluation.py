from __future__ import annotations

import numpy as np

import cnnkit
from cnnkit.views import PLAIN, Views


def test_views_are_asked_for_by_name_and_change_the_answers(trained):
    plain, several = cnnkit.evaluate(trained.run), cnnkit.evaluate(trained.run, tta=True)
    assert (plain.views, several.views) == (PLAIN, Views("h", 1))
    assert plain.heading == ""
    assert plain.paths == several.paths
    assert 1e-5 < np.abs(plain.probabilities - several.probabilities).max() < 1
    assert several.folder == trained.run / "eval/test-tta"
    assert several.opened == 2
