from __future__ import annotations

import numpy as np
import pytest

from cnnkit.errors import ConfigError, DataError
from cnnkit.metrics.conformal import LabelSets, fit_label_sets, set_outcome


def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of a model of five classes that is far too sure of itself."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(5, size=n)
    logits = 3 * rng.normal(size=(n, 5)) + 4 * np.eye(5)[labels]
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    return labels, (chances / chances.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("n", "coverage"), [(39, 0.95), (200, 0.9)])
def test_the_true_class_is_in_the_set_as_often_as_promised(n, coverage):
    shares = []
    for seed in range(400):
        rule = fit_label_sets(*draw(n, seed), coverage, split="val")
        shares.append(set_outcome(*draw(100, seed + 1000), rule).coverage.value)
    spread = 3 * np.std(shares) / np.sqrt(len(shares))
    assert coverage - spread <= np.mean(shares) <= coverage + 1 / (n + 1) + spread


def test_the_threshold_is_the_rank_that_the_extra_image_asks_for():
    labels = np.zeros(19, np.int64)
    own = np.linspace(0.1, 0.9, 19)
    probabilities = np.stack([own, 1 - own], axis=1)
    assert fit_label_sets(labels, probabilities, 0.95, split="val") == LabelSets(0.1, 0.95, 19, "val")
    assert fit_label_sets(labels, probabilities, 0.9, split="val").threshold == pytest.approx(own[1])


def test_too_few_images_for_the_coverage():
    labels, probabilities = draw(18, 0)
    with pytest.raises(DataError, match=r"label sets of coverage 0\.95 need at least 19 val images, there are 18: ask for less"):
        fit_label_sets(labels, probabilities, 0.95, split="val")


@pytest.mark.parametrize("coverage", [0.0, 1.0, 95.0])
def test_a_coverage_that_is_none(coverage):
    with pytest.raises(ConfigError, match=r"it must lie between 0 and 1, such as 0\.95"):
        fit_label_sets([0], [[1.0, 0.0]], coverage, split="val")


def test_the_first_answer_is_always_in_the_set_and_no_set_is_empty():
    rule = LabelSets(threshold=0.8, coverage=0.5, n=100, split="val")
    inside = rule.members(np.array([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0], [0.2, 0.2, 0.6]], np.float32))
    assert inside.tolist() == [[True, False, False], [True, False, False], [False, False, True]]


def test_the_outcome_counts_sets_and_hits():
    rule = LabelSets(threshold=0.3, coverage=0.9, n=100, split="val")
    probabilities = np.array([[0.6, 0.3, 0.1], [0.9, 0.1, 0.0], [0.34, 0.33, 0.33], [0.1, 0.1, 0.8]])
    outcome = set_outcome([1, 0, 2, 0], probabilities, rule)
    assert outcome.to_dict() == {
        "coverage": {"value": 0.75, "low": pytest.approx(0.301, abs=1e-3), "high": pytest.approx(0.987, abs=1e-3)},
        "mean_size": 1.75,
        "single": 0.5,
        "sizes": {"1": 2, "2": 1, "3": 1},
    }
