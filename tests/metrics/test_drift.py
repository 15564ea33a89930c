from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from cnnkit.metrics.drift import MIN_IMAGES, RANGE_MARGIN, Outlier, compare, find_outliers, fingerprint

NAMES = ("brightness", "sharpness", "confidence")


def look(n: int, rng: np.random.Generator, shares: tuple[float, ...] = (0.4, 0.4, 0.2)) -> tuple[np.ndarray, np.ndarray]:
    """Return values (N, 3) and predicted classes (N,) of classes that look different and have the given shares."""
    predicted = rng.choice(3, size=n, p=shares)
    values = np.stack([rng.normal(predicted, 1), rng.gamma(2 + predicted), rng.beta(5, 1 + predicted)], axis=1)
    return values, predicted


KNOWN = fingerprint(NAMES, *look(600, np.random.default_rng(0)), 3, split="val")


@pytest.mark.parametrize("n", [MIN_IMAGES, 300, 3000])
def test_images_of_the_same_source_raise_an_alert_in_at_most_one_of_100_batches(n):
    batches = 400
    alerts = sum(compare(KNOWN, *look(n, np.random.default_rng(seed))).has_alert for seed in range(1, batches + 1))
    assert alerts <= binom.ppf(0.99, batches, 0.01)


def test_a_new_fingerprint_for_each_batch_raises_no_more_alerts():
    alerts = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        alerts += compare(fingerprint(NAMES, *look(60, rng), 3, split="val"), *look(200, rng)).has_alert
    assert alerts <= binom.ppf(0.99, 300, 0.01)


@pytest.mark.parametrize("shares", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.3, 0.7)])
def test_another_mixture_of_classes_is_no_drift(shares):
    values, predicted = look(2000, np.random.default_rng(5), shares)
    found = compare(KNOWN, values, predicted)
    assert not found.has_alert
    assert max(shift.distance for shift in found.shifts) < 0.12
    # a fingerprint without classes raises an alert
    all_as_one = compare(fingerprint(NAMES, *_one_class(600), 1, split="val"), values, np.zeros(2000, np.int64))
    assert all_as_one.has_alert


def _one_class(n: int) -> tuple[np.ndarray, np.ndarray]:
    values, _ = look(n, np.random.default_rng(0))
    return values, np.zeros(n, np.int64)


@pytest.mark.parametrize(("feature", "change"), [(0, -3.0), (1, 5.0), (2, -0.4)])
def test_a_shifted_feature_raises_an_alert_with_its_name_and_direction(feature, change):
    values, predicted = look(MIN_IMAGES, np.random.default_rng(2))
    values[:, feature] += change
    found = compare(KNOWN, values, predicted)
    assert found.has_alert
    worst = found.shifts[0]
    assert (worst.feature, worst.is_shifted) == (NAMES[feature], True)
    assert (worst.median - worst.usual) * change > 0
    assert [shift.is_shifted for shift in found.shifts].count(True) == 1


def test_a_significant_but_small_difference_raises_no_alert():
    values, predicted = look(100_000, np.random.default_rng(3))
    known = fingerprint(NAMES, values, predicted, 3, split="val")
    found = compare(known, values + np.array([0.1, 0, 0]), predicted)
    worst = found.shifts[0]
    assert worst.p < 1e-6
    assert 0.02 < worst.distance < 0.1
    assert not found.has_alert


def test_a_class_without_predictions_in_the_fingerprint_is_compared_with_all_images():
    rng = np.random.default_rng(4)
    values, _ = look(500, rng)
    known = fingerprint(NAMES, values, np.zeros(500, np.int64), 2, split="val")
    assert not compare(known, look(300, rng)[0], np.ones(300, np.int64)).has_alert


def test_a_constant_feature_raises_an_alert_once_it_varies():
    gray = fingerprint(["saturation"], np.zeros((100, 1)), np.zeros(100, np.int64), 1, split="val")
    assert not compare(gray, np.zeros((50, 1)), np.zeros(50, np.int64)).has_alert
    assert compare(gray, np.full((50, 1), 0.3), np.zeros(50, np.int64)).has_alert


def test_medians_are_those_of_the_images():
    values, predicted = look(5000, np.random.default_rng(8))
    known = fingerprint(NAMES, values, predicted, 3, split="val")
    same = np.full((100, 3), 0.4)
    for shift in compare(known, np.concatenate([values, same]), np.concatenate([predicted, np.zeros(100, np.int64)])).shifts:
        index = NAMES.index(shift.feature)
        assert shift.median == pytest.approx(np.median(np.concatenate([values[:, index], same[:, index]])))
        assert shift.usual == pytest.approx(np.median(values[:, index]), abs=0.03)
    assert {shift.median for shift in compare(known, same, np.zeros(100, np.int64)).shifts} == {0.4}


def test_every_number_is_in_the_document_with_its_limits():
    document = json.loads(json.dumps(compare(KNOWN, *look(50, np.random.default_rng(6))).to_dict()))
    assert (document["alarm"], document["n"], document["reference"], document["split"]) == (False, 50, 600, "val")
    assert (document["level"], document["smallest_distance"]) == (0.01, 0.1)
    assert set(document["features"][0]) == {"feature", "distance", "p", "median", "usual", "shifted"}
    assert len(document["features"]) == 3


def test_an_outlier_is_outside_the_range_by_more_than_the_margin():
    values, predicted = look(200, np.random.default_rng(3))
    known = fingerprint(NAMES, values, predicted, 3, split="val")
    low, high = known.ranges[1]
    assert (low, high) == pytest.approx((values[:, 1].min(), values[:, 1].max()), rel=1e-5)
    middle = np.median(values, axis=0)
    near, far = middle.copy(), middle.copy()
    near[1] = high + 0.99 * RANGE_MARGIN * (high - low)
    far[1] = high + 1.01 * RANGE_MARGIN * (high - low)
    far[0] = known.ranges[0][0] - 0.1 * RANGE_MARGIN  # outside as well, but less far
    assert find_outliers(known, np.stack([middle, near, far])) == [Outlier(2, "sharpness", far[1], low, high)]
    assert find_outliers(known, values) == []
    assert find_outliers(replace(known, ranges=()), far[None]) == []  # a model file of an earlier version


def test_a_feature_with_one_known_value_has_outliers():
    known = fingerprint(("brightness",), np.full((50, 1), 0.5), np.zeros(50, np.int64), 1, split="val")
    assert [each.image for each in find_outliers(known, np.array([[0.5], [0.6]]))] == [1]
