from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from cnnkit.errors import DataError
from cnnkit.metrics import calibration
from cnnkit.metrics.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    brier_score,
    brier_scores,
    calibration_error,
    confidence_counts,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
)
from cnnkit.metrics.proportion import wilson


def plain_ece(labels: np.ndarray, probabilities: np.ndarray, bins: int) -> float:
    """Return the calibration error by its definition, image by image, for distinct confidences."""
    rows = sorted((float(p.max()), int(p.argmax()) == y) for p, y in zip(probabilities, labels, strict=True))
    total = 0.0
    for number in range(bins):
        part = rows[len(rows) * number // bins : len(rows) * (number + 1) // bins]
        total += abs(sum(hit for _, hit in part) - sum(confidence for confidence, _ in part))
    return total / len(rows)


@pytest.mark.parametrize("n", [1, 7, 15, 16, 400])
@pytest.mark.parametrize("bins", [1, 4, 15])
def test_the_error_equals_its_definition(drawn, n, bins):
    labels, logits = drawn(n, 1.7)
    probabilities = softmax(logits, axis=1)
    assert expected_calibration_error(labels, probabilities, bins) == pytest.approx(plain_ece(labels, probabilities, bins), abs=1e-12)


@given(
    st.lists(st.tuples(st.sampled_from([0.5, 0.6, 0.75, 1.0]), st.booleans()), min_size=1, max_size=60), st.randoms(), st.integers(1, 20)
)
def test_the_order_of_images_with_equal_confidence_does_not_matter(rows, random, bins):
    shuffled = random.sample(rows, len(rows))
    found = []
    for order in (rows, shuffled):
        confidence, right = np.array([row[0] for row in order]), np.array([row[1] for row in order])
        probs = np.stack([confidence, 1 - confidence], axis=1)
        parts = reliability_bins((~right).astype(int), probs, bins)
        assert sum(part.count for part in parts) == len(rows)
        assert all(one.high < other.low for one, other in pairwise(parts))
        found.append(expected_calibration_error((~right).astype(int), probs, bins))
        assert found[-1] == pytest.approx(sum(p.count * abs(p.confidence - p.accuracy.value) for p in parts) / len(rows), abs=1e-12)
        assert 0 <= found[-1] <= 1
    assert found[0] == pytest.approx(found[1], abs=1e-12)


def test_bins_hold_equal_numbers_and_have_wilsons_interval(drawn):
    labels, logits = drawn(1003, 2.0)
    bins = reliability_bins(labels, softmax(logits, axis=1))
    assert len(bins) == 15
    assert {part.count for part in bins} == {66, 67}
    assert all(part.low <= part.confidence <= part.high for part in bins)
    assert all(part.accuracy == wilson(round(part.accuracy.value * part.count), part.count) for part in bins)
    assert all(part.accuracy.high < part.confidence for part in bins[5:9])  # logits twice too large make the model too sure
    assert json.loads(json.dumps(bins[0].to_dict()))["accuracy"].keys() == {"value", "low", "high"}


def test_certain_and_right_is_calibrated_and_certain_and_wrong_is_not():
    certain = np.eye(3)[[0, 1, 2, 0]]
    assert expected_calibration_error([0, 1, 2, 0], certain) == 0
    assert expected_calibration_error([1, 2, 0, 1], certain) == 1
    assert (brier_score([0, 1, 2, 0], certain), brier_score([1, 2, 0, 1], certain)) == (0, 2)
    assert brier_score([0], [[0.25] * 4]) == pytest.approx(0.75)


def test_the_histogram_counts_every_image_once():
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5], [0.99, 0.01], [0.3, 0.7]])
    assert confidence_counts(probabilities, 4) == (0, 0, 2, 2)
    assert confidence_counts(np.array([[1.0 + 1e-6, 0.0]]), 4) == (0, 0, 0, 1)


def test_brier_is_the_squared_distance_from_the_truth(drawn):
    labels, logits = drawn(50)
    probabilities = softmax(logits, axis=1).astype(np.float32)
    expected = ((probabilities.astype(np.float64) - np.eye(5)[labels]) ** 2).sum(axis=1)
    np.testing.assert_allclose(brier_scores(labels, probabilities), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.15, 2.0])
def test_the_interval_has_its_nominal_coverage(drawn, temperature):
    labels, logits = drawn(400_000, temperature, seed=99)
    truth = 0.0 if temperature == 1 else expected_calibration_error(labels, softmax(logits, axis=1))
    covered = []
    for seed in range(200):
        labels, logits = drawn(1000, temperature, seed=seed)
        found = calibration_error(labels, softmax(logits, axis=1), draws=200, seed=seed)
        assert found.low <= found.value <= found.high
        covered.append(found.low <= truth <= found.high)
    assert 0.88 <= np.mean(covered) <= 0.995


def test_the_interval_is_as_wide_as_that_of_a_plain_bootstrap(drawn):
    labels, logits = drawn(300, 2.0)
    probabilities = softmax(logits, axis=1)
    ours = calibration_error(labels, probabilities, 5)
    rng = np.random.default_rng(1)
    plain = []
    for _ in range(1000):
        rows = rng.integers(300, size=300)
        plain.append(expected_calibration_error(labels[rows], probabilities[rows], 5))
    assert ours.value == pytest.approx(plain_ece(labels, probabilities, 5))
    assert ours.high - ours.low == pytest.approx(np.subtract(*np.quantile(plain, [0.975, 0.025])), rel=0.15)


def test_without_a_mistake_the_interval_still_has_a_width():
    found = calibration_error([0, 1] * 50, np.eye(2)[[0, 1] * 50])
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(wilson(0, 100).high)


def test_the_interval_is_repeatable_and_does_not_depend_on_the_block_size(drawn, monkeypatch):
    labels, logits = drawn(100)
    whole = calibration_error(labels, softmax(logits, axis=1))
    monkeypatch.setattr(calibration, "_MAX_ENTRIES", 1000)
    assert calibration_error(labels, softmax(logits, axis=1)) == whole
    assert calibration_error(labels, softmax(logits, axis=1), seed=1) != whole


def best_by_search(labels: np.ndarray, logits: np.ndarray) -> float:
    """Return the temperature of least loss by a search over log T, without a derivative."""

    def loss(log_temperature: float) -> float:
        return -log_softmax(logits / math.exp(log_temperature), axis=1)[np.arange(len(labels)), labels].sum()

    return math.exp(
        minimize_scalar(loss, bounds=(math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)), method="bounded", options={"xatol": 1e-10}).x
    )


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 1.7, 8.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_temperature_minimises_the_loss(drawn, temperature, dtype):
    labels, logits = drawn(500, temperature)
    found = fit_temperature(logits.astype(dtype), labels)
    assert found == pytest.approx(best_by_search(labels, logits.astype(dtype).astype(np.float64)), rel=1e-5)
    assert found == pytest.approx(temperature, rel=0.2)


@given(n=st.integers(2, 40), classes=st.integers(2, 6), scale=st.floats(0.1, 10), seed=st.integers(0, 1000), shift=st.floats(-1e4, 1e4))
def test_the_temperature_stays_in_bounds_and_does_not_depend_on_an_offset(drawn, n, classes, scale, seed, shift):
    labels, logits = drawn(n, scale, classes=classes, seed=seed)
    found = fit_temperature(logits, labels)
    assert MIN_TEMPERATURE <= found <= MAX_TEMPERATURE
    assert fit_temperature(logits + shift, labels) == pytest.approx(found, rel=1e-6)


def test_the_temperature_of_many_images_is_computed_in_parts(drawn, monkeypatch):
    labels, logits = drawn(200, 3.0)
    whole = fit_temperature(logits, labels)
    monkeypatch.setattr(calibration, "_MAX_ENTRIES", 35)
    assert fit_temperature(logits, labels) == pytest.approx(whole, rel=1e-9)


EXTREMES: dict[str, tuple[Callable[[], float], float]] = {
    "all right": (lambda: fit_temperature([[2.0, 0.0], [0.0, 3.0]], [0, 1]), MIN_TEMPERATURE),
    "all wrong": (lambda: fit_temperature([[2.0, 0.0], [0.0, 3.0]], [1, 0]), MAX_TEMPERATURE),
    "one image, right": (lambda: fit_temperature([[2.0, 0.0, 1.0]], [0]), MIN_TEMPERATURE),
    "one image, last": (lambda: fit_temperature([[2.0, 0.0, 1.0]], [1]), MAX_TEMPERATURE),
    "one class": (lambda: fit_temperature([[2.0], [5.0]], [0, 0]), 1.0),
    "equal logits": (lambda: fit_temperature([[1.0, 1.0], [4.0, 4.0]], [0, 1]), 1.0),
    "no image": (lambda: fit_temperature(np.empty((0, 3)), np.empty(0, int)), 1.0),
    "nothing finite": (lambda: fit_temperature([[math.nan, 0.0], [math.inf, 0.0], [0.0, -math.inf]], [0, 1, 1]), 1.0),
}


@pytest.mark.parametrize("case", EXTREMES)
def test_extremes_end_at_a_bound_or_at_one(case):
    found, expected = EXTREMES[case]
    assert found() == expected


def test_logits_that_are_not_finite_are_left_out(drawn):
    labels, logits = drawn(100, 2.0)
    odd = np.vstack([logits, [[math.nan, 0, 0, 0, 0], [0, math.inf, 0, 0, 0], [0, 0, -math.inf, 0, 0]]])
    assert fit_temperature(odd, np.append(labels, [0, 0, 0])) == fit_temperature(logits, labels)


def test_enormous_logits_do_not_overflow(drawn):
    labels, logits = drawn(300, 2.0)
    assert fit_temperature(logits * 5 + 1e30, labels) == 1.0  # rounding removes the differences
    assert fit_temperature(logits * 1e6, labels) == MAX_TEMPERATURE


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (
            lambda: expected_calibration_error([0, 1], [[0.5, 0.5]]),
            r"shape \(2,\) and probabilities of shape \(1, 2\) do not fit",
        ),
        (lambda: brier_score([], np.empty((0, 2))), "with at least 1 image"),
        (
            lambda: expected_calibration_error([0, 2], np.full((2, 2), 0.5)),
            r"range from 0 to 2: with 2 classes they must lie in 0\.\.1",
        ),
        (
            lambda: reliability_bins([0, 1], [[0.5, 0.5], [math.nan, 0.5]]),
            "1 of 2 images have NaN probabilities: the model's weights may be damaged",
        ),
        (lambda: expected_calibration_error([0], [[1.0]], bins=0), "0 bins: a calibration error needs at least 1 bin, such as 15"),
        (lambda: fit_temperature([[0.0, 1.0]], [0, 1]), r"logits of shape \(1, 2\) and labels of shape \(2,\) do not fit"),
        (lambda: fit_temperature([[0.0, 1.0]], [2]), r"they must lie in 0\.\.1"),
    ],
)
def test_inputs_that_do_not_fit_are_errors(work, message):
    with pytest.raises(DataError, match=message):
        work()
