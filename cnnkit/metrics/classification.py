"""The report of one model on one split: every number that eval prints and metrics.json keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.errors import DataError
from cnnkit.metrics.counts import Counts, Margins, check_indices, confusion_counts, margins
from cnnkit.metrics.intervals import Estimate, bootstrap_counts, bootstrap_mean, finite, wilson
from cnnkit.metrics.scores import (
    Scores,
    balanced_accuracy_of,
    f1_of,
    macro_f1_of,
    precision_of,
    recall_of,
    weighted_f1_of,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_TOP = 5


@dataclass(frozen=True)
class ClassScore:
    """One class: scores in [0, 1], NaN where undefined (see `cnnkit.metrics.scores`); `support` images have this label."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int

    def to_dict(self) -> dict[str, Any]:
        """Return the row of metrics.json; an undefined score is None (null)."""
        return {
            "class": self.name,
            "precision": finite(self.precision),
            "recall": finite(self.recall),
            "f1": finite(self.f1),
            "support": self.support,
        }


@dataclass(frozen=True, eq=False)
class ClassificationReport:
    """What a model scored on one split of `n` images. Scores lie in [0, 1]; the loss is in nats per image.

    `balanced_accuracy` is the mean recall, `macro_f1` the mean F1, over the classes that occur. `top5_accuracy` is None with five
    classes or fewer, where it would be 1 by definition. `majority_baseline` is the accuracy of always answering
    `majority_class`, the most frequent true class: what a model must beat. `confusion` is int64 (K, K), rows true.
    """

    split: str
    n: int
    accuracy: Estimate
    loss: Estimate
    macro_f1: Estimate
    balanced_accuracy: Estimate
    top5_accuracy: Estimate | None
    weighted_f1: float
    majority_baseline: float
    majority_class: str
    per_class: tuple[ClassScore, ...]
    classes: tuple[str, ...]
    confusion: Counts

    def to_dict(self, *, confusion: bool = False) -> dict[str, Any]:
        """Return the object of metrics.json, strictly valid JSON; with `confusion` also the keys ``classes`` and ``confusion``."""
        result: dict[str, Any] = {
            "split": self.split,
            "n": self.n,
            "accuracy": self.accuracy.to_dict(),
            "loss": self.loss.to_dict(),
            "macro_f1": self.macro_f1.to_dict(),
            "balanced_accuracy": self.balanced_accuracy.to_dict(),
            "top5_accuracy": self.top5_accuracy.to_dict() if self.top5_accuracy else None,
            "weighted_f1": finite(self.weighted_f1),
            "majority_baseline": self.majority_baseline,
            "majority_class": self.majority_class,
            "per_class": [score.to_dict() for score in self.per_class],
        }
        if confusion:
            result["classes"] = list(self.classes)
            result["confusion"] = self.confusion.tolist()
        return result


def classification_report(
    labels: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[str],
    *,
    split: str,
    losses: ArrayLike | None = None,
) -> ClassificationReport:
    """Score `probabilities` (N, K) against `labels` (N,), integers that index `classes` (K,).

    The predicted class is the one of highest probability, the first of equals. `losses` (N,) are -log p of the true class in nats;
    left out, they are taken from `probabilities`, where a 0 counts as the smallest positive number of their type.
    `split` (train, val, test) is only recorded. Intervals: Wilson for accuracy and top-5, bootstrap for the others.
    Raises `DataError` for no image, shapes that do not fit, labels out of range or numbers that are no probabilities.
    """
    true, chances = np.asarray(labels), np.asarray(probabilities)
    _check(true, chances, classes)
    table = confusion_counts(true, chances.argmax(axis=1), len(classes))
    table.setflags(write=False)
    sums = margins(table)
    n = len(true)
    majority = int(sums.support.argmax())
    return ClassificationReport(
        split=split,
        n=n,
        accuracy=wilson(int(sums.hits.sum()), n),
        loss=bootstrap_mean(_losses(true, chances) if losses is None else _one_per_image(losses, n)),
        macro_f1=_mean_over_classes(table, macro_f1_of),
        balanced_accuracy=_mean_over_classes(table, balanced_accuracy_of),
        top5_accuracy=wilson(int((_rank(true, chances) < _TOP).sum()), n) if len(classes) > _TOP else None,
        weighted_f1=float(weighted_f1_of(sums)),
        majority_baseline=float(sums.support[majority] / n),
        majority_class=classes[majority],
        per_class=_per_class(sums, classes),
        classes=tuple(classes),
        confusion=table,
    )


def _check(labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]) -> None:
    if labels.ndim != 1 or probabilities.shape != (len(labels), len(classes)):
        raise DataError(
            f"labels of shape {labels.shape}, probabilities of shape {probabilities.shape} and {len(classes)} classes do not fit: "
            f"they must be (N,), (N, {len(classes)}) and {len(classes)}"
        )
    if len(labels) == 0:
        raise DataError("there is no image to evaluate: the split is empty; choose another with --split, or split the data anew")
    check_indices("labels", labels, len(classes))
    wrong = ~((probabilities >= 0) & (probabilities <= 1 + 1e-3)).all(axis=1)  # also true for NaN; half precision may round above 1
    if wrong.any():
        raise DataError(
            f"the model gave {int(wrong.sum())} of {len(labels)} images numbers that are no probabilities (NaN, or outside 0..1), "
            f"the first at row {int(wrong.argmax())}: its weights may be damaged, or these are logits; train again with a lower --lr"
        )


def _one_per_image(losses: ArrayLike, n: int) -> NDArray[np.float64]:
    values = np.asarray(losses, dtype=np.float64)
    if values.shape != (n,):
        raise DataError(f"losses of shape {values.shape} for {n} images: they must be ({n},), one per image")
    return values


def _losses(labels: NDArray[Any], probabilities: NDArray[Any]) -> NDArray[np.float64]:
    chance = probabilities[np.arange(len(labels)), labels]
    smallest = np.finfo(chance.dtype).tiny if np.issubdtype(chance.dtype, np.floating) else np.finfo(np.float64).tiny
    return -np.log(np.maximum(chance, smallest).astype(np.float64))


def _rank(labels: NDArray[Any], probabilities: NDArray[Any]) -> NDArray[np.int64]:
    """How many classes stand before the true one, (N,); of equal probabilities the first class stands first, as in argmax."""
    mine = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    return ((probabilities > mine) | ((probabilities == mine) & earlier)).sum(axis=1)


def _mean_over_classes(table: Counts, statistic: Callable[[Margins], Scores]) -> Estimate:
    """Bootstrap a mean over classes, without claiming certainty when every resample looks the same.

    A table without a mistake can only be resampled into tables without a mistake. Then the interval is Wilson's for K² / Σ(1/nₖ)
    images: the number that gives a proportion the variance of a mean of K proportions of nₖ images each.
    """
    estimate = bootstrap_counts(table, statistic)
    if estimate.low < estimate.high:
        return estimate
    support = margins(table).support
    support = support[support > 0]
    worth = len(support) ** 2 / float((1 / support).sum())
    return wilson(estimate.value * worth, worth)


def _per_class(sums: Margins, classes: Sequence[str]) -> tuple[ClassScore, ...]:
    columns = (precision_of(sums), recall_of(sums), f1_of(sums))
    return tuple(
        ClassScore(name, float(precision), float(recall), float(f1), int(support))
        for name, precision, recall, f1, support in zip(classes, *columns, sums.support, strict=True)
    )
