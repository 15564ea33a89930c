from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnnkit.metrics.comparison import Entrant, ModelPredictions, PairComparison, compare_pairs
from cnnkit.metrics.comparison_verdict import about, p_text, points, signed, verdict
from cnnkit.metrics.intervals import Estimate


def pair(both: int, only_first: int, only_second: int, neither: int, **files: str) -> PairComparison:
    """Return the comparison of "old" and "new" with these counts; `files` may name their files."""
    right = [np.repeat([True, True, False, False], (both, only_first, only_second, neither)), np.zeros(0, bool)]
    right[1] = np.repeat([True, False, True, False], (both, only_first, only_second, neither))
    entrants = [
        Entrant(name, files.get(name, name), ModelPredictions(np.where(ok, 0, 1), np.full(len(ok), 0.7), np.where(ok, 0.1, 1.0)))
        for name, ok in zip(("old", "new"), right, strict=True)
    ]
    return compare_pairs(np.zeros(len(right[0]), np.int64), ("a", "b"), entrants)[0]


def test_the_verdict_names_the_better_model_and_its_gain() -> None:
    assert verdict(pair(900, 10, 40, 50)) == "new is better than old: +3.0 points (1.7 to 4.5), p < 0.001"


def test_the_verdict_names_a_better_first_model() -> None:
    assert verdict(pair(900, 40, 10, 50)) == "old is better than new: +3.0 points (1.7 to 4.5), p < 0.001"


def test_no_significant_difference_has_the_number_of_images_needed() -> None:
    assert verdict(pair(900, 22, 28, 50)) == (
        "no significant difference: new against old +0.6 points (-0.8 to 2.0), p = 0.48; "
        "it takes about 11,000 test images to show a difference of this size with 80 % power"
    )


def test_a_difference_of_zero_has_the_smallest_difference_that_shows() -> None:
    sentence = verdict(pair(900, 25, 25, 50))
    assert sentence.startswith("no significant difference: new against old 0.0 points (-1.4 to 1.4), p = 1.00; ")
    assert sentence.endswith("these images show a difference of at least 2.1 points with 80 % power")


def test_too_few_disagreements_show_no_difference() -> None:
    assert verdict(pair(96, 1, 1, 2)).endswith("they disagree on 2 images, too few to show any difference")


def test_models_that_are_right_on_the_same_images() -> None:
    found = pair(90, 0, 0, 10)
    assert verdict(found) == "new and old are identical on these 100 images: equal predictions with equal probabilities"
    unsure = replace(found, identical=False)
    assert verdict(unsure) == "no significant difference: new and old are right on the same 90 of 100 images"


def test_one_file_under_two_names() -> None:
    assert verdict(pair(90, 0, 0, 10, old="f", new="f")) == "new and old are identical: their model files are equal"


def test_the_verdict_of_several_pairs_names_the_correction() -> None:
    found = replace(pair(900, 10, 40, 50), corrected=0.012, pairs=3)
    assert verdict(found).endswith("p = 0.012 (Holm, 3 pairs)")


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0004, "p < 0.001"),
        (0.0031, "p = 0.0031"),
        (0.0496, "p = 0.0496"),
        (0.0504, "p = 0.0504"),
        (0.05, "p = 0.0500"),
        (0.412, "p = 0.41"),
    ],
)
def test_a_rounded_p_value_stays_above_or_below_0_05(p: float, text: str) -> None:
    assert p_text(p) == text


@pytest.mark.parametrize(
    ("count", "text"), [(7, "about 7"), (23, "about 23"), (155, "about 160"), (4096, "about 4,100"), (10_001, "about 10,000")]
)
def test_an_estimated_number_has_two_digits(count: int, text: str) -> None:
    assert about(count) == text


def test_narrow_intervals_have_two_decimals() -> None:
    assert points(Estimate(0.0004, 0.0001, 0.0007)) == "+0.04 points (0.01 to 0.07)"
    assert points(Estimate(-0.0001, -0.01, 0.01)) == "0.0 points (-1.0 to 1.0)"
    assert (signed(-0.0001, 1), signed(0.3, 1), signed(-2.04, 1)) == ("0.0", "+0.3", "-2.0")
