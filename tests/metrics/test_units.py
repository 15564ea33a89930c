from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import t as student

from cnnkit.metrics.classification import classification_report
from cnnkit.metrics.intervals import bootstrap_mean
from cnnkit.metrics.paired import mcnemar, paired_counts, paired_test
from cnnkit.metrics.proportion import wilson
from cnnkit.metrics.units import Units, design_effect, proportion, sign_flip_p, student_quantile


def units_of(sizes: list[int]) -> Units:
    return Units(np.repeat(np.arange(len(sizes)), sizes), len(sizes))


def test_names_are_numbered_in_order() -> None:
    units = Units.of(["b", "a", "b", "c"])
    assert units.index.tolist() == [0, 1, 0, 2]
    assert (units.count, units.are_single, units.sizes.tolist()) == (3, False, [2, 1, 1])
    assert units.one_image_each.tolist() == [0, 1, 3]
    assert units.sums(np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [4.0, 2.0, 4.0]
    assert units.of_rows(np.array([True, False, True, True])).sizes.tolist() == [2, 1]
    assert Units.single(5).are_single


@pytest.mark.parametrize(("right", "n"), [(0, 7), (7, 7), (3, 50), (49, 50)])
def test_single_images_have_the_interval_of_wilson(right: int, n: int) -> None:
    assert proportion(np.arange(n) < right, Units.single(n)) == wilson(right, n)


def test_units_of_equal_images_count_once() -> None:
    """Every image five times: the interval is about that of the images without their copies."""
    right = np.arange(200) < 160
    copied = proportion(np.repeat(right, 5), units_of([5] * 200))
    alone = wilson(160, 200)
    assert copied.value == alone.value
    assert copied.low == pytest.approx(alone.low, abs=0.002)
    assert copied.high == pytest.approx(alone.high, abs=0.002)


def test_units_without_a_mistake_count_once() -> None:
    found = proportion(np.ones(120, bool), units_of([6] * 20))
    worth = 20 * (1.96 / float(student.ppf(0.975, 19))) ** 2
    expected = wilson(worth, worth)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(expected.low, abs=1e-4)


def test_one_unit_tells_as_much_as_one_image() -> None:
    assert proportion(np.array([True] * 3 + [False]), units_of([4])).low < 0.2


@pytest.mark.parametrize(("accuracy", "correlation"), [(0.7, 0.3), (0.7, 0.9), (0.95, 0.3), (0.95, 0.9)])
def test_the_interval_holds_the_accuracy_of_fifty_units(accuracy: float, correlation: float) -> None:
    """See docs/benchmarks/units.py; images that are counted as independent hold it in 66 to 84 %."""
    rng, weight = np.random.default_rng(1), (1 - correlation) / correlation
    held, by_images = 0, 0
    for _ in range(600):
        units = units_of(rng.integers(1, 7, 50).tolist())
        right = rng.random(len(units.index)) < rng.beta(accuracy * weight, (1 - accuracy) * weight, 50)[units.index]
        found, plain = proportion(right, units), wilson(int(right.sum()), len(right))
        held += found.low <= accuracy <= found.high
        by_images += plain.low <= accuracy <= plain.high
    assert 0.925 < held / 600 < 0.985
    assert by_images / 600 < 0.88


def test_the_design_effect_of_alike_units_is_their_mean_size() -> None:
    right = np.repeat(np.arange(100) < 70, 4)
    effect = design_effect(right - 0.7, units_of([4] * 100), 400 * 0.21)
    assert effect == pytest.approx(4 * 100 / 99, rel=0.01)
    assert design_effect(right - 0.7, Units.single(400), 84.0) == 1.0


@pytest.mark.parametrize("differences", [[1, 1, 1, -1], [0, 0], [3, -1, 2, 0, 1, 1], [5], [2, 2, 2, 2]])
def test_sign_flips_are_counted_exactly(differences: list[int]) -> None:
    total = abs(sum(differences))
    flips = itertools.product((1, -1), repeat=len(differences))
    sums = [abs(sum(sign * each for sign, each in zip(signs, differences, strict=True))) for signs in flips]
    assert sign_flip_p(np.array(differences)) == pytest.approx(np.mean([each >= total for each in sums]))


def test_the_paired_test_of_single_images_is_that_of_mcnemar() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(300) < 0.7, rng.random(300) < 0.8
    change = second.astype(int) - first.astype(int)
    expected = mcnemar(paired_counts(first, second))
    assert sign_flip_p(change) == pytest.approx(expected)
    assert paired_test(first, second).p == paired_test(first, second, Units.single(300)).p == expected


def test_copies_of_every_image_change_no_paired_test() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.random(100) < 0.7, rng.random(100) < 0.8
    copied = paired_test(np.repeat(first, 4), np.repeat(second, 4), units_of([4] * 100))
    alone = paired_test(first, second)
    assert copied.p == pytest.approx(alone.p)
    assert copied.difference.value == pytest.approx(alone.difference.value)
    assert copied.difference.low == pytest.approx(alone.difference.low, abs=0.01)
    assert copied.effect == pytest.approx(4, rel=0.02)


def test_a_mean_over_units_has_the_spread_of_the_units() -> None:
    losses = np.random.default_rng(3).exponential(size=300)
    alone, copied = bootstrap_mean(losses), bootstrap_mean(np.repeat(losses, 3), units=units_of([3] * 300))
    assert copied.value == pytest.approx(alone.value)
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.1)
    one = bootstrap_mean(losses, units=units_of([300]))
    assert math.isnan(one.low)


def test_every_interval_of_a_report_counts_units() -> None:
    rng = np.random.default_rng(4)
    labels = np.arange(150) % 3
    probabilities = rng.dirichlet((1, 1, 1), 150)
    probabilities[np.arange(150), labels] += rng.random(150)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = [str(row) for row in range(150)]
    alone = classification_report(labels, probabilities, "abc", split="test", units=Units.of(names), majority_class="a").to_dict()
    four_times, of_four = (np.repeat(labels, 4), np.repeat(probabilities, 4, axis=0)), np.repeat(names, 4).tolist()
    copied = classification_report(*four_times, "abc", split="test", units=Units.of(of_four), majority_class="a").to_dict()
    assert (alone["units"], copied["units"], copied["n"]) == (150, 150, 600)
    assert [row["units"] for row in copied["per_class"]] == [50, 50, 50]
    for key in ("accuracy", "macro_f1", "balanced_accuracy", "loss", "brier", "roc_auc", "average_precision", "ece"):
        widths = [each[key]["high"] - each[key]["low"] for each in (alone, copied)]
        assert copied[key]["value"] == pytest.approx(alone[key]["value"], abs=0.02), key
        assert widths[1] == pytest.approx(widths[0], rel=0.3), key
    for row, other in zip(alone["per_class"], copied["per_class"], strict=True):
        assert other["recall_low"] == pytest.approx(row["recall_low"], abs=0.03)


def test_students_quantile_is_that_of_scipy() -> None:
    assert student_quantile(0.95, 7) == pytest.approx(student.ppf(0.975, 7))
