from __future__ import annotations

import numpy as np
import pytest

from cnnkit.data.split.candidates import describe
from cnnkit.doctor.series.alike import NO_WINS, Wins, compare

LABELS = np.repeat([0, 1], 60)


def test_pictures_of_one_scene_win_and_independent_pictures_win_half(pictures) -> None:
    scenes = np.repeat(np.arange(24), 5)
    together = compare(describe(pictures(scenes)), LABELS, scenes, across=False)
    assert together.value > 0.95
    assert together.certain
    apart = compare(describe(pictures(np.arange(120))), LABELS, scenes, across=False)
    assert apart.value == pytest.approx(0.5, abs=0.1)
    assert not apart.certain


def test_series_across_classes_are_compared_with_images_of_the_other_class(pictures) -> None:
    scenes = np.tile(np.arange(20), 6)
    labels = np.repeat(np.arange(6), 20)
    assert compare(describe(pictures(scenes)), labels, scenes, across=True).value > 0.95
    assert compare(describe(pictures(scenes)), labels, scenes, across=False) == NO_WINS


def test_few_series_are_no_evidence(pictures) -> None:
    scenes = np.repeat(np.arange(4), 30)
    assert compare(describe(pictures(scenes)), LABELS, scenes, across=False) == NO_WINS


def test_a_win_is_certain_with_enough_samples_and_a_narrow_interval() -> None:
    assert Wins(0.8, 0.7, 20).certain
    assert not Wins(0.8, 0.7, 19).certain
    assert not Wins(0.8, 0.5, 300).certain
    assert not Wins(0.6, 0.6, 300).certain
