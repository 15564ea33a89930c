from __future__ import annotations

import numpy as np
import pytest

from cnnkit.errors import ConfigError, DataError
from cnnkit.metrics.conformal import LabelSets, fit_label_sets, label_set_outcome


def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and probabilities of a model of five classes that is far too sure."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(5, size=n)
    logits = 3 * rng.normal(size=(n, 5)) + 4 * np.eye(5)[labels]
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    return labels, (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("n", "coverage"), [(39, 0.95), (200, 0.9)])
def test_the_sets_hold_the_true_class_with_the_given_coverage(n, coverage):
    shares = []
    for seed in range(400):
        rule = fit_label_sets(*draw(n, seed), coverage, split="val")
        shares.append(label_set_outcome(*draw(100, seed + 1000), rule).coverage.value)
    spread = 3 * np.std(shares) / np.sqrt(len(shares))
    assert coverage - spread <= np.mean(shares) <= coverage + 1 / (n + 1) + spread


def test_the_threshold_has_the_rank_for_one_more_image():
    labels = np.zeros(19, np.int64)
    own = np.linspace(0.1, 0.9, 19)
    probabilities = np.stack([own, 1 - own], axis=1)
    assert fit_label_sets(labels, probabilities, 0.95, split="val") == LabelSets(0.1, 0.95, 19, "val")
    assert fit_label_sets(labels, probabilities, 0.9, split="val").threshold == pytest.approx(own[1])


def test_too_few_images_for_the_coverage_are_an_error():
    labels, probabilities = draw(18, 0)
    with pytest.raises(DataError, match=r"label sets of coverage 0\.95 need at least 19 val images, got 18: choose a lower coverage"):
        fit_label_sets(labels, probabilities, 0.95, split="val")


@pytest.mark.parametrize("coverage", [0.0, 1.0, 95.0])
def test_a_coverage_outside_0_to_1_is_an_error(coverage):
    with pytest.raises(ConfigError, match=r"the coverage must lie between 0 and 1, got .*; with 0\.95, 95 sets of 100 hold the true class"):
        fit_label_sets([0], [[1.0, 0.0]], coverage, split="val")


def test_every_set_holds_the_predicted_class():
    rule = LabelSets(threshold=0.8, coverage=0.5, n=100, split="val")
    inside = rule.members(np.array([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0], [0.2, 0.2, 0.6]], np.float32))
    assert inside.tolist() == [[True, False, False], [True, False, False], [False, False, True]]


def test_the_outcome_counts_sets_and_hits():
    rule = LabelSets(threshold=0.3, coverage=0.9, n=100, split="val")
    probabilities = np.array([[0.6, 0.3, 0.1], [0.9, 0.1, 0.0], [0.34, 0.33, 0.33], [0.1, 0.1, 0.8]])
    outcome = label_set_outcome([1, 0, 2, 0], probabilities, rule)
    assert outcome.to_dict() == {
        "coverage": {"value": 0.75, "low": pytest.approx(0.301, abs=1e-3), "high": pytest.approx(0.987, abs=1e-3)},
        "mean_size": 1.75,
        "single": 0.5,
        "sizes": {"1": 2, "2": 1, "3": 1},
    }
