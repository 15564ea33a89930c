from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from cnnkit.errors import DataError
from cnnkit.metrics.comparison import Entrant, ModelPredictions, compare_pairs, loss_difference, macro_f1_difference, score
from cnnkit.metrics.counts import confusion_counts
from cnnkit.metrics.paired import PairedCounts, mcnemar
from cnnkit.metrics.scores import macro_f1

CLASSES = ("ants", "bees", "wasps")


def drawn(n: int, accuracy: float, seed: int) -> NDArray[np.int64]:
    """Return predictions for `labels(n)`, about `accuracy` of them right; models of different accuracy share their easy images."""
    random = np.random.default_rng(seed)
    ease = 0.7 * np.random.default_rng(99).random(n) + 0.3 * random.random(n)
    return np.where(ease < accuracy, labels(n), (labels(n) + random.integers(1, 3, size=n)) % 3)


def labels(n: int) -> NDArray[np.int64]:
    return np.arange(n) % 3


def entrant(name: str, predicted: NDArray[np.int64], true: NDArray[np.int64], file: str = "") -> Entrant:
    right = predicted == true
    losses = np.where(right, 0.1, 1.5) + 0.001 * np.arange(len(true), dtype=np.float64)
    return Entrant(name, file or name, ModelPredictions(predicted, np.where(right, 0.9, 0.6), losses.astype(np.float64)))


def test_a_pair_has_counts_p_value_and_images() -> None:
    true = np.array([0, 1, 2, 0, 1, 2])
    a, b = np.array([0, 1, 2, 1, 0, 2]), np.array([0, 1, 0, 0, 1, 1])
    losses = np.array([0.1, 0.1, 0.1, 2.0, 1.0, 0.1]), np.array([0.1, 0.1, 1.0, 0.1, 0.2, 3.0])
    entrants = [
        Entrant(name, name, ModelPredictions(predicted, np.full(6, 0.8), loss))
        for name, predicted, loss in zip("ab", (a, b), losses, strict=True)
    ]
    (pair,) = compare_pairs(true, CLASSES, entrants)
    assert pair.counts == PairedCounts(both=2, only_first=2, only_second=2, neither=0)
    assert (pair.p, pair.corrected, pair.accuracy.value, pair.better) == (1.0, 1.0, 0.0, None)
    assert pair.fixed.tolist() == [3, 4]  # the loss falls by 1.9, by 0.8
    assert pair.broken.tolist() == [5, 2]  # it rises by 2.9, by 0.9
    assert pair.loss.value == pytest.approx(np.mean(losses[1] - losses[0]))
    assert [(each.name, each.counts.only_first, each.counts.only_second) for each in pair.per_class] == [
        ("ants", 0, 1),
        ("bees", 0, 1),
        ("wasps", 2, 0),
    ]


def test_a_difference_is_the_second_model_minus_the_first() -> None:
    true = labels(600)
    low, high = entrant("low", drawn(600, 0.7, 1), true), entrant("high", drawn(600, 0.9, 2), true)
    (pair,), (back,) = compare_pairs(true, CLASSES, [low, high]), compare_pairs(true, CLASSES, [high, low])
    assert pair.accuracy.value > 0.1
    assert pair.better == back.better == "high"
    assert pair.macro_f1.low > 0
    assert pair.loss.high < 0
    assert (back.accuracy.value, back.loss.value) == pytest.approx((-pair.accuracy.value, -pair.loss.value))
    assert back.fixed.tolist() == pair.broken.tolist()


def test_several_pairs_and_their_classes_are_corrected_together() -> None:
    true = labels(900)
    entrants = [entrant(name, drawn(900, share, seed), true) for seed, (name, share) in enumerate([("a", 0.8), ("b", 0.83), ("c", 0.9)])]
    pairs = compare_pairs(true, CLASSES, entrants)
    assert [(pair.first, pair.second, pair.pairs) for pair in pairs] == [("a", "b", 3), ("a", "c", 3), ("b", "c", 3)]
    raw, corrected = [pair.p for pair in pairs], [pair.corrected for pair in pairs]
    assert raw == [mcnemar(pair.counts) for pair in pairs]
    assert min(corrected) == pytest.approx(3 * min(raw))
    assert all(c >= p for c, p in zip(corrected, raw, strict=True))
    of_classes = [each for pair in pairs for each in pair.per_class]
    least = min(of_classes, key=lambda each: each.p)
    assert least.corrected == pytest.approx(9 * least.p)
    alone = compare_pairs(true, CLASSES, entrants[:2])[0]
    assert alone.corrected == alone.p
    assert alone.needed is not None
    assert pairs[0].needed is not None
    assert pairs[0].needed > alone.needed


def test_one_file_twice_differs_from_equal_predictions() -> None:
    true, predicted = labels(30), drawn(30, 0.8, 1)
    (same,) = compare_pairs(true, CLASSES, [entrant("a", predicted, true, file="f"), entrant("b", predicted, true, file="f")])
    (equal,) = compare_pairs(true, CLASSES, [entrant("a", predicted, true), entrant("b", predicted, true)])
    assert (same.same_model, same.identical) == (True, True)
    assert (equal.same_model, equal.identical) == (False, True)
    unsure = Entrant("c", "c", ModelPredictions(predicted, np.full(30, 0.5), np.full(30, 0.5)))
    (other,) = compare_pairs(true, CLASSES, [entrant("a", predicted, true), unsure])
    assert (other.identical, other.counts.disagreement, other.needed) == (False, 0.0, None)


def test_the_paired_bootstrap_agrees_with_redrawing_rows() -> None:
    true, first, second = labels(300), drawn(300, 0.7, 1), drawn(300, 0.8, 2)
    ours = macro_f1_difference(true, first, second, 3)

    def difference(rows: NDArray[np.int64]) -> float:
        return macro_f1(confusion_counts(true[rows], second[rows], 3)) - macro_f1(confusion_counts(true[rows], first[rows], 3))

    random = np.random.default_rng(0)
    naive = np.quantile([difference(random.integers(300, size=300)) for _ in range(1000)], [0.025, 0.975])
    assert ours.value == pytest.approx(difference(np.arange(300)), abs=1e-12)
    assert (ours.low, ours.high) == pytest.approx(tuple(naive), abs=0.008)
    apart = [score(true, ModelPredictions(predicted, np.ones(300), np.ones(300)), 3).macro_f1 for predicted in (first, second)]
    assert ours.high - ours.low < sum(
        each.high - each.low for each in apart
    )  # the models share their mistakes, so pairing narrows the interval


@pytest.mark.parametrize("n", [150, 600])
def test_the_interval_of_macro_f1_has_its_nominal_coverage(n: int) -> None:
    probs = np.array([[0.75, 0.15, 0.10], [0.85, 0.05, 0.10]])  # of predicting the true class, the next, the next but one

    def predictions(random: np.random.Generator, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        luck = random.random(count)  # one draw for both models makes them agree as often as possible
        first, second = ((labels(count) + np.searchsorted(np.cumsum(row)[:2], luck)) % 3 for row in probs)
        return first, second

    truth = macro_f1_difference(labels(300_000), *predictions(np.random.default_rng(1), 300_000), 3).value
    held = []
    for seed in range(200):
        found = macro_f1_difference(labels(n), *predictions(np.random.default_rng(seed), n), 3)
        held.append(found.low <= truth <= found.high)
    assert 0.89 <= np.mean(held) <= 0.99


def test_differences_without_a_spread_have_no_interval() -> None:
    predicted = drawn(30, 0.8, 1)
    found = macro_f1_difference(labels(30), predicted, predicted, 3), loss_difference(np.ones(30), np.ones(30) + 1)
    assert [each.value for each in found] == [0.0, 1.0]
    assert all(math.isnan(each.low) and math.isnan(each.high) for each in found)


@pytest.mark.parametrize(("count", "n"), [(1, 5), (2, 0)])
def test_too_few_models_or_images_are_an_error(count: int, n: int) -> None:
    with pytest.raises(DataError, match=f"a comparison needs at least 2 models and 1 image, got {count} and {n}"):
        compare_pairs(labels(n), CLASSES, [entrant(str(index), labels(n), labels(n)) for index in range(count)])
