from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.ranking import area_interval, rank

sk: Any = metrics


def table(n: int, num_classes: int, seed: int, decimals: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(num_classes, size=n)
    probs = random.dirichlet(np.ones(num_classes), size=n)
    probs[np.arange(n), labels] += 0.2
    return labels, probs if decimals is None else probs.round(decimals)


def areas(labels: np.ndarray, probs: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """Return scikit-learn's areas, each class that occurs against the rest."""
    present = np.unique(labels)
    roc = [sk.roc_auc_score(labels == k, probs[:, k], sample_weight=weights) for k in present]
    precision = [sk.average_precision_score(labels == k, probs[:, k], sample_weight=weights) for k in present]
    return float(np.mean(roc)), float(np.mean(precision))


@pytest.mark.parametrize(("num_classes", "decimals"), [(2, None), (5, None), (5, 1), (30, 2), (30, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_equals_scikit_learn_with_and_without_ties(num_classes: int, decimals: int | None, seed: int) -> None:
    labels, probs = table(200, num_classes, seed, decimals)
    found = rank(labels, probs)
    assert (found.roc_auc, found.average_precision) == pytest.approx(areas(labels, probs), abs=1e-12)


@pytest.mark.parametrize("decimals", [None, 1])
def test_influence_is_the_derivative_with_respect_to_a_weight(decimals: int | None) -> None:
    labels, probs = table(60, 3, 0, decimals)
    found, step = rank(labels, probs), 1e-6
    assert found.roc_auc_influence.sum() == pytest.approx(0, abs=1e-12)
    assert found.average_precision_influence.sum() == pytest.approx(0, abs=1e-12)
    for image in range(0, 60, 7):
        weights = np.ones(60)
        weights[image] += step
        moved = [(after - before) / step for before, after in zip(areas(labels, probs), areas(labels, probs, weights), strict=True)]
        assert [found.roc_auc_influence[image], found.average_precision_influence[image]] == pytest.approx(moved, abs=1e-6)


def test_classes_without_images_are_left_out() -> None:
    labels, probs = table(100, 3, 0)
    wider = np.column_stack([probs, np.full(100, 0.9)])
    assert rank(labels, wider).roc_auc == rank(labels, probs).roc_auc


def test_one_class_alone_cannot_be_ranked() -> None:
    found = rank(np.zeros(4, np.int64), np.full((4, 2), 0.5))
    assert np.isnan([found.roc_auc, found.average_precision]).all()


def test_the_interval_of_an_area_has_its_nominal_coverage() -> None:
    truth, held = areas(*table(60_000, 3, 0)), np.zeros(2)
    for seed in range(1, 301):
        found = rank(*table(60, 3, seed))
        ends = (
            area_interval(found.roc_auc, found.roc_auc_influence),
            area_interval(found.average_precision, found.average_precision_influence),
        )
        held += [end.low <= true <= end.high for end, true in zip(ends, truth, strict=True)]
    assert (held / 300 >= 0.9).all()
    assert (held / 300 <= 0.985).all()


def test_an_area_of_1_and_an_undefined_area_have_no_width() -> None:
    assert area_interval(1.0, np.zeros(3)) == Estimate(1.0, 1.0, 1.0)
    assert np.isnan(area_interval(np.nan, np.zeros(3)).low)
    assert area_interval(1 - 1e-9, np.array([0.1, -0.1])) == Estimate(1 - 1e-9, 0.0, 1.0)


def test_a_thousand_classes_take_under_five_seconds() -> None:
    labels, probs = table(10_000, 1000, 0)
    started = time.process_time()
    rank(labels, probs.astype(np.float32))
    assert time.process_time() - started < 5, "0.5 s on a quiet machine"
