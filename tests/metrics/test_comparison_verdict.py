from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnnkit.metrics.comparison import Answers, Entrant, PairComparison, compare_pairs
from cnnkit.metrics.comparison_verdict import about, p_text, points, signed, verdict
from cnnkit.metrics.intervals import Estimate


def pair(both: int, only_first: int, only_second: int, neither: int, **files: str) -> PairComparison:
    """The comparison of "old" and "new" with these counts; `files` may name their files."""
    right = [np.repeat([True, True, False, False], (both, only_first, only_second, neither)), np.zeros(0, bool)]
    right[1] = np.repeat([True, False, True, False], (both, only_first, only_second, neither))
    entrants = [
        Entrant(name, files.get(name, name), Answers(np.where(ok, 0, 1), np.full(len(ok), 0.7), np.where(ok, 0.1, 1.0)))
        for name, ok in zip(("old", "new"), right, strict=True)
    ]
    return compare_pairs(np.zeros(len(right[0]), np.int64), ("a", "b"), entrants)[0]


def test_the_better_one_is_named_with_its_gain() -> None:
    assert verdict(pair(900, 10, 40, 50)) == "new is better than old: +3.0 points (1.7 to 4.5), p < 0.001"


def test_a_worse_second_is_told_from_the_better_first() -> None:
    assert verdict(pair(900, 40, 10, 50)) == "old is better than new: +3.0 points (1.7 to 4.5), p < 0.001"


def test_what_cannot_be_told_says_how_many_images_would_tell() -> None:
    assert verdict(pair(900, 22, 28, 50)) == (
        "no difference can be told: new against old +0.6 points (-0.8 to 2.0), p = 0.48; "
        "about 11,000 test images would be needed to tell a difference of this size at 80 % power"
    )


def test_a_difference_of_nothing_says_what_these_images_would_tell() -> None:
    said = verdict(pair(900, 25, 25, 50))
    assert said.startswith("no difference can be told: new against old 0.0 points (-1.4 to 1.4), p = 1.00; ")
    assert said.endswith("these images would tell a difference of 2.1 points or more at 80 % power")


def test_too_few_disagreements_to_tell_anything() -> None:
    assert verdict(pair(96, 1, 1, 2)).endswith("they disagree on 2 images, too few to tell anything")


def test_right_on_the_same_images() -> None:
    found = pair(90, 0, 0, 10)
    assert verdict(found) == "new and old are identical on these 100 images: the same answers with the same probabilities"
    unsure = replace(found, identical=False)
    assert verdict(unsure) == "no difference can be told: new and old are right on the same 90 of 100 images"


def test_one_file_under_two_names() -> None:
    assert verdict(pair(90, 0, 0, 10, old="f", new="f")) == "new and old are identical: their model files are equal"


def test_several_pairs_say_so() -> None:
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
def test_a_p_value_never_looks_like_the_other_side(p: float, text: str) -> None:
    assert p_text(p) == text


@pytest.mark.parametrize(
    ("count", "text"), [(7, "about 7"), (23, "about 23"), (155, "about 160"), (4096, "about 4,100"), (10_001, "about 10,000")]
)
def test_an_estimated_number_has_two_digits(count: int, text: str) -> None:
    assert about(count) == text


def test_large_test_sets_have_finer_points() -> None:
    assert points(Estimate(0.0004, 0.0001, 0.0007)) == "+0.04 points (0.01 to 0.07)"
    assert points(Estimate(-0.0001, -0.01, 0.01)) == "0.0 points (-1.0 to 1.0)"
    assert (signed(-0.0001, 1), signed(0.3, 1), signed(-2.04, 1)) == ("0.0", "+0.3", "-2.0")
