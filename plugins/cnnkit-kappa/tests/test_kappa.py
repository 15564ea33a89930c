"""Tests of the plugin: it keeps the contract, an installed cnnkit finds it, and scikit-learn computes the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cnnkit_kappa import compute, kappa
from sklearn.metrics import cohen_kappa_score

from cnnkit.registry import METRIC_KIND, load_extension
from cnnkit.testing import check_metric


def test_kappa_keeps_the_contract() -> None:
    check_metric(kappa, "kappa")


def test_cnnkit_finds_kappa_by_name() -> None:
    found = load_extension(METRIC_KIND, "kappa:weights=linear")
    assert found.value.summary == kappa.summary
    assert (found.entry.package, found.options) == ("cnnkit-kappa", {"weights": "linear"})


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_scikit_learn_computes_the_same(weights: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    classes = int(random.integers(2, 7))
    probabilities = random.dirichlet(np.ones(classes), size=50)
    predicted, labels = probabilities.argmax(1), random.integers(classes, size=50)
    expected = cohen_kappa_score(labels, predicted, labels=range(classes), weights=None if weights == "none" else weights)
    assert compute(labels, predicted, probabilities, weights=weights) == pytest.approx(expected, abs=1e-12)


def test_one_class_alone_has_no_kappa() -> None:
    labels = np.zeros(5, np.int64)
    assert math.isnan(compute(labels, labels, np.eye(3)[labels]))


def test_a_far_mistake_costs_more_than_a_near_one() -> None:
    labels = np.repeat(np.arange(4), 5)
    near, far = labels.copy(), labels.copy()
    near[0], far[0] = 1, 3
    assert compute(labels, far, np.eye(4)[far]) < compute(labels, near, np.eye(4)[near]) < 1


def test_other_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="weights=cubic must be one of none, linear, quadratic"):
        compute(np.zeros(1, np.int64), np.zeros(1, np.int64), np.eye(2)[:1], weights="cubic")
