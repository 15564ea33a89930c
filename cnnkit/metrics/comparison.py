"""Comparison of models on the same images, pair by pair and class by class.

A difference is the second model's score minus the first model's. Intervals are 95 % intervals of one difference each. P-values are
corrected for the number of pairs, or of classes in all pairs (Holm).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.errors import DataError
from cnnkit.metrics.intervals import Estimate, bootstrap_cells, bootstrap_confusion, bootstrap_mean, bootstrap_units, margins_of_cells
from cnnkit.metrics.paired import SIGNIFICANCE, PairedCounts, holm, images_needed, paired_test, smallest_difference
from cnnkit.metrics.scores import macro_f1_of
from cnnkit.metrics.units import Units, proportion

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_MIN_MODELS = 2


@dataclass(frozen=True, eq=False)
class ModelPredictions:
    """The predictions of one model for N images, each field (N,).

    `predicted` holds int64 class indices, `probability` their probabilities in [0, 1], `losses` -log p of the true class in nats.
    """

    predicted: NDArray[np.int64]
    probability: NDArray[np.float64]
    losses: NDArray[np.float64]

    def equals(self, other: ModelPredictions) -> bool:
        """Tell whether `other` has the same classes with the same probabilities and losses."""
        return (
            np.array_equal(self.predicted, other.predicted)
            and np.array_equal(self.probability, other.probability)
            and np.array_equal(self.losses, other.losses)
        )


@dataclass(frozen=True, eq=False)
class Entrant:
    """One model of a comparison: its displayed `name`, the SHA-256 of its file, and its predictions."""

    name: str
    sha256: str
    predictions: ModelPredictions


@dataclass(frozen=True)
class Score:
    """The scores of one model on the images of the comparison: shares in [0, 1], the loss in nats per image."""

    accuracy: Estimate
    macro_f1: Estimate
    loss: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return the keys of metrics.json."""
        return {"accuracy": self.accuracy.to_dict(), "macro_f1": self.macro_f1.to_dict(), "loss": self.loss.to_dict()}


@dataclass(frozen=True)
class ClassDifference:
    """One class in one pair: counts of right predictions, the difference in recall, and p, `corrected` for all classes and pairs."""

    name: str
    counts: PairedCounts
    recall: Estimate
    p: float
    corrected: float = 1.0

    @property
    def is_clear(self) -> bool:
        """Tell whether one model has a significantly better recall of this class."""
        return self.corrected < SIGNIFICANCE

    def to_dict(self) -> dict[str, Any]:
        """Return the row of compare.json."""
        return {
            "class": self.name,
            "support": self.counts.n,
            "fixed": self.counts.only_second,
            "broken": self.counts.only_first,
            "recall": self.recall.to_dict(),
            "p": self.p,
            "p_corrected": self.corrected,
            "clear": self.is_clear,
        }


@dataclass(frozen=True, eq=False)
class PairComparison:
    """The comparison of two models, `first` and `second` by name, on N images.

    `accuracy`, `macro_f1` (both in [-1, 1]) and `loss` (nats) are differences, second minus first. `p` is McNemar's p-value,
    `corrected` the same after correction for `pairs` pairs. `fixed` holds the rows of the images on which only the second model is
    right, `broken` the rows on which only the first is; the largest change of the loss comes first. `same_model` marks one file compared
    with itself, `identical` equal predictions with equal probabilities. `needed` is the number of images that show a difference of
    this size, `smallest` the difference that these images show, both at 80 % power; None if there is no such number. `effect` is the
    design effect of units (`PairedTest`).
    """

    first: str
    second: str
    counts: PairedCounts
    accuracy: Estimate
    macro_f1: Estimate
    loss: Estimate
    p: float
    fixed: NDArray[np.int64]
    broken: NDArray[np.int64]
    per_class: tuple[ClassDifference, ...]
    same_model: bool
    identical: bool
    effect: float = 1.0
    corrected: float = 1.0
    pairs: int = 1
    needed: int | None = None
    smallest: float | None = None

    @property
    def better(self) -> str | None:
        """The name of the model that is right significantly more often; None if neither is."""
        if self.corrected >= SIGNIFICANCE:
            return None
        return self.second if self.accuracy.value > 0 else self.first

    def to_dict(self) -> dict[str, Any]:
        """Return the pair of compare.json, without the verdict and the images."""
        return {
            "first": self.first,
            "second": self.second,
            "better": self.better,
            "same_model": self.same_model,
            "identical": self.identical,
            "both_right": self.counts.both,
            "fixed": self.counts.only_second,
            "broken": self.counts.only_first,
            "both_wrong": self.counts.neither,
            "accuracy": self.accuracy.to_dict(),
            "macro_f1": self.macro_f1.to_dict(),
            "loss": self.loss.to_dict(),
            "p": self.p,
            "p_corrected": self.corrected,
            "images_needed": self.needed,
            "smallest_difference": self.smallest,
            "per_class": [each.to_dict() for each in self.per_class],
        }


def score(labels: NDArray[np.int64], predictions: ModelPredictions, classes: int, units: Units | None = None) -> Score:
    """Score one model's predictions against `labels` (N,), indices of `classes` classes, on images of `units`."""
    of_images = units or Units.single(len(labels))
    return Score(
        accuracy=proportion(predictions.predicted == labels, of_images),
        macro_f1=bootstrap_confusion(labels, predictions.predicted, classes, macro_f1_of, of_images),
        loss=bootstrap_mean(predictions.losses, units=of_images),
    )


def compare_pairs(
    labels: NDArray[np.int64], classes: Sequence[str], entrants: Sequence[Entrant], units: Units | None = None
) -> tuple[PairComparison, ...]:
    """Compare every pair of `entrants`, in the given order, on images with true classes `labels` (N,), indices of `classes`.

    Intervals and p-values count `units`; by default every image is a unit of its own.
    Raises `DataError` if there is no image, or fewer than two models.
    """
    if len(entrants) < _MIN_MODELS or not len(labels):
        raise DataError(f"a comparison needs at least 2 models and 1 image, got {len(entrants)} and {len(labels)}")
    of_images = units or Units.single(len(labels))
    found = [_compare(labels, classes, first, second, of_images) for first, second in combinations(entrants, 2)]
    corrected = holm([pair.p for pair in found])
    of_classes = iter(holm([each.p for pair in found for each in pair.per_class]))
    # Holm compares the smallest p with 0.05 over the number of pairs, so a power analysis must do the same
    significance = SIGNIFICANCE / len(found)
    return tuple(
        replace(
            pair,
            corrected=p,
            pairs=len(found),
            per_class=tuple(replace(each, corrected=next(of_classes)) for each in pair.per_class),
            needed=_times(images_needed(pair.accuracy.value, pair.counts.disagreement, significance=significance), pair.effect),
            smallest=smallest_difference(pair.counts.n / pair.effect, pair.counts.disagreement, significance=significance),
        )
        for pair, p in zip(found, corrected, strict=True)
    )


def _times(number: int | None, effect: float) -> int | None:
    """Return `number` images times the design effect."""
    return None if number is None else math.ceil(number * effect)


def macro_f1_difference(labels: ArrayLike, first: ArrayLike, second: ArrayLike, classes: int, units: Units | None = None) -> Estimate:
    """Return the difference in macro-F1, second minus first, with its paired bootstrap interval over images, or over `units`.

    `labels`, `first` and `second` are class indices (N,) in [0, classes). The bootstrap draws an image together with both predictions:
    a multinomial over the triples that occur. The interval is NaN if no draw differs from another, because it then has no spread.
    """
    triples = np.stack([np.asarray(labels), np.asarray(first), np.asarray(second)])
    (true, one, other), cells, counts = np.unique(triples, axis=1, return_inverse=True, return_counts=True)

    def difference(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        return macro_f1_of(margins_of_cells(drawn, true, other, classes)) - macro_f1_of(margins_of_cells(drawn, true, one, classes))

    if units is not None and not units.are_single:
        return _with_spread(bootstrap_units(cells.ravel(), difference, units))
    return _with_spread(bootstrap_cells(counts, difference))


def loss_difference(first: ArrayLike, second: ArrayLike, units: Units | None = None) -> Estimate:
    """Return the mean difference of two losses (N,) of the same images, second minus first, with its bootstrap interval."""
    return _with_spread(bootstrap_mean(np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64), units=units))


def _with_spread(found: Estimate) -> Estimate:
    return found if found.low < found.high else Estimate(found.value, np.nan, np.nan)


def _compare(labels: NDArray[np.int64], classes: Sequence[str], first: Entrant, second: Entrant, units: Units) -> PairComparison:
    one, other = first.predictions, second.predictions
    right = one.predicted == labels, other.predicted == labels
    test = paired_test(*right, units)
    change = other.losses - one.losses
    fixed, broken = np.flatnonzero(right[1] & ~right[0]), np.flatnonzero(right[0] & ~right[1])
    return PairComparison(
        first=first.name,
        second=second.name,
        counts=test.counts,
        accuracy=test.difference,
        macro_f1=macro_f1_difference(labels, one.predicted, other.predicted, len(classes), units),
        loss=loss_difference(one.losses, other.losses, units),
        p=test.p,
        effect=test.effect,
        fixed=fixed[np.argsort(change[fixed], kind="stable")],
        broken=broken[np.argsort(-change[broken], kind="stable")],
        per_class=tuple(_class_difference(classes[int(index)], right, labels == index, units) for index in np.unique(labels)),
        same_model=first.sha256 == second.sha256,
        identical=one.equals(other),
    )


def _class_difference(
    name: str, right: tuple[NDArray[np.bool_], NDArray[np.bool_]], members: NDArray[np.bool_], units: Units
) -> ClassDifference:
    test = paired_test(right[0][members], right[1][members], units.of_rows(members))
    return ClassDifference(name, test.counts, test.difference, test.p)
