from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, norm

from cnnkit.errors import ConfigError
from cnnkit.metrics.paired import (
    PairedCounts,
    accuracy_difference,
    connor,
    holm,
    images_needed,
    mcnemar,
    paired_counts,
    smallest_difference,
)

SMALL = st.tuples(*[st.integers(0, 40)] * 4).filter(any).map(lambda cells: PairedCounts(*cells))


def test_images_are_counted_by_the_models_that_are_right() -> None:
    first = np.array([1, 1, 1, 0, 0, 0, 0], bool)
    second = np.array([1, 1, 0, 1, 1, 1, 0], bool)
    assert paired_counts(first, second) == PairedCounts(both=2, only_first=1, only_second=3, neither=1)
    assert paired_counts(first, second).disagreement == 4 / 7


@pytest.mark.parametrize(("first", "second"), [([], []), ([True], [True, False])])
def test_predictions_that_cannot_be_paired_are_an_error(first: list[bool], second: list[bool]) -> None:
    with pytest.raises(ConfigError, match=r"cannot be paired: both must be \(N,\), N at least 1"):
        paired_counts(first, second)


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (0, 5, 2 / 2**5),
        (1, 7, 2 * (1 + 8) / 2**8),  # 2 · P(X <= 1), X ~ Binomial(8, 1/2)
        (4, 4, 1.0),
    ],
)
def test_mcnemar_by_hand(only_first: int, only_second: int, expected: float) -> None:
    for counts in (PairedCounts(50, only_first, only_second, 7), PairedCounts(0, only_second, only_first, 0)):
        assert mcnemar(counts) == pytest.approx(expected, rel=1e-12)


@given(SMALL)
def test_mcnemar_is_twice_the_smaller_tail(counts: PairedCounts) -> None:
    disagreeing = counts.only_first + counts.only_second
    tail = binom.cdf(min(counts.only_first, counts.only_second), disagreeing, 0.5)
    assert mcnemar(counts) == pytest.approx(min(1.0, 2 * tail), rel=1e-9)


@pytest.mark.parametrize(
    ("only_first", "only_second", "n", "confidence", "low", "high"),
    [  # scoreci.mp of PropCIs 0.3-0 (R), to the published digits
        (60, 20, 1000, 0.95, -0.0584, -0.0231),
        (20, 60, 1000, 0.95, 0.0231, 0.0584),
        (25, 28, 618, 0.90, -0.0148, 0.0247),
        (41, 48, 549, 0.90, -0.0157, 0.0414),
    ],
)
def test_tango_equals_r(only_first: int, only_second: int, n: int, confidence: float, low: float, high: float) -> None:
    found = accuracy_difference(PairedCounts(n - only_first - only_second, only_first, only_second, 0), confidence)
    assert found.value == (only_second - only_first) / n
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(SMALL)
def test_the_score_test_reaches_its_limit_at_the_ends(counts: PairedCounts) -> None:
    """The test maximises the likelihood numerically, without the formula of its root."""
    n, less, more = counts.n, counts.only_first, counts.only_second
    found = accuracy_difference(counts)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0
    for end in (found.low, found.high):
        if not -0.999 < end < 0.999:
            continue

        def unlikely(share: float, end: float = end) -> float:
            cells = ((less, share), (more, share + end), (n - less - more, 1 - 2 * share - end))
            return -sum(count * math.log(max(probability, 1e-300)) for count, probability in cells if count)

        likeliest: Any = minimize_scalar(unlikely, bounds=(max(0.0, -end), (1 - end) / 2), method="bounded", options={"xatol": 1e-12})
        share = float(likeliest.x)
        score = (found.value - end) / math.sqrt((2 * share + end - end**2) / n)
        assert abs(score) == pytest.approx(norm.ppf(0.975), abs=0.01)


def test_models_without_disagreement_have_an_interval_with_a_width() -> None:
    limit = norm.ppf(0.975) ** 2
    for n in (5, 1_000_000):
        found = accuracy_difference(PairedCounts(n, 0, 0, 0))
        assert found.value == 0
        assert (-found.low, found.high) == pytest.approx((limit / (n + limit),) * 2, abs=1e-9)


def test_one_model_always_right_and_the_other_never() -> None:
    found = accuracy_difference(PairedCounts(0, 0, 5, 0))
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0 < found.low < 0.5


def test_a_confidence_outside_0_to_1_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"the confidence must lie between 0 and 1, such as 0\.95, got 95"):
        accuracy_difference(PairedCounts(1, 1, 1, 1), 95)


@pytest.mark.parametrize(("n", "accuracy", "disagreement"), [(50, 0.9, 0.1), (500, 0.9, 0.05), (500, 0.5, 0.4), (5000, 0.99, 0.01)])
def test_the_interval_has_its_nominal_coverage(n: int, accuracy: float, disagreement: float) -> None:
    truth = -disagreement / 2
    first, second = (disagreement - truth) / 2, (disagreement + truth) / 2
    drawn = np.random.default_rng(0).multinomial(n, [accuracy - first, first, second, 1 - accuracy - second], size=2000)
    interval = cache(accuracy_difference)
    found = [interval(PairedCounts(n - int(one) - int(other), int(one), int(other), 0)) for _, one, other, _ in drawn]
    assert 0.935 <= np.mean([each.low <= truth <= each.high for each in found]) <= 0.975


def test_the_exact_test_finds_a_false_difference_at_most_one_time_in_twenty() -> None:
    p_value = cache(lambda one, other: mcnemar(PairedCounts(0, one, other, 0)))
    for n, disagreement in ((50, 0.2), (500, 0.1), (5000, 0.02)):
        drawn = np.random.default_rng(0).multinomial(n, [disagreement / 2, disagreement / 2, 1 - disagreement], size=4000)
        share = np.mean([p_value(int(one), int(other)) < 0.05 for one, other, _ in drawn])
        assert 0.005 < share < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)


@pytest.mark.parametrize(
    ("difference", "disagreement", "expected"),
    [
        (0.40, 0.50, 23),  # the worked example of powerandsamplesize.com, which cites Connor
        (-0.15, 0.45, 155),
    ],
)
def test_connor_of_published_examples(difference: float, disagreement: float, expected: int) -> None:
    assert math.ceil(connor(difference, disagreement)) == expected
    needed = images_needed(difference, disagreement)
    assert needed is not None
    assert expected < needed < expected + 2.5 / abs(difference)  # the correction for the exact test adds about 2 / difference images


def test_no_number_of_images_shows_a_difference_of_zero() -> None:
    assert images_needed(0.0, 0.1) is None


@pytest.mark.parametrize(("difference", "disagreement"), [(0.05, 0.2), (0.02, 0.1), (0.01, 0.03)])
def test_the_number_of_images_needed_has_80_percent_power(difference: float, disagreement: float) -> None:
    n = images_needed(difference, disagreement) or 0
    first, second = (disagreement - difference) / 2, (disagreement + difference) / 2
    drawn = np.random.default_rng(0).multinomial(n, [first, second, 1 - disagreement], size=3000)
    p_value = cache(lambda one, other: mcnemar(PairedCounts(0, one, other, 0)))
    assert 0.78 < np.mean([p_value(int(one), int(other)) < 0.05 for one, other, _ in drawn]) < 0.86


def test_more_pairs_need_more_images() -> None:
    single, one_of_three = images_needed(0.02, 0.1), images_needed(0.02, 0.1, significance=0.05 / 3)
    assert single is not None
    assert one_of_three is not None
    assert one_of_three > single


@given(st.integers(20, 100_000), st.floats(0.01, 1.0))
def test_the_smallest_difference_needs_just_these_images(n: int, disagreement: float) -> None:
    smallest = smallest_difference(n, disagreement)
    if smallest is None:
        needed = images_needed(disagreement, disagreement)  # the largest possible difference
        assert needed is not None
        assert needed > n
    else:
        assert 0 < smallest <= disagreement
        assert images_needed(smallest, disagreement) in {n, n + 1}


def test_models_without_disagreement_show_no_difference() -> None:
    assert smallest_difference(1000, 0.0) is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == [0.8, 0.9]
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_only_raises_and_keeps_the_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()
