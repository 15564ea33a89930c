"""The classification report of one model on one split: every number in metrics.json and on the screen of ``cnnkit eval``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.errors import DataError, counted
from cnnkit.metrics.baselines import MAJORITY_BASELINE, Baseline, baseline
from cnnkit.metrics.calibration import ReliabilityBin, brier_scores, calibration_error, reliability_bins
from cnnkit.metrics.class_scores import ClassScore, class_scores
from cnnkit.metrics.counts import Counts, Margins, check_indices, confusion_counts
from cnnkit.metrics.intervals import Estimate, bootstrap_confusion
from cnnkit.metrics.proportion import finite, wilson
from cnnkit.metrics.ranking import area_interval, rank
from cnnkit.metrics.resampling import bootstrap_rows
from cnnkit.metrics.scores import Scores, balanced_accuracy_of, macro_f1_of, weighted_f1_of
from cnnkit.metrics.units import Units, proportion

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

TOP_K = 5  # the usual second score on ImageNet


@dataclass(frozen=True, eq=False, repr=False)
class ClassificationReport:
    """The scores of a model on one split of `n` images, in [0, 1]; `loss` is -log p in nats per image, `brier` lies in [0, 2].

    The images are of `units` units (`cnnkit.metrics.units`), which the intervals count.
    `balanced_accuracy` is the mean recall and `macro_f1` the mean F1 over the classes that occur. `roc_auc` and `average_precision`
    are means over the classes that have images, each against the rest; NaN if only one class has images. `top_k_accuracy` is None
    with `top_k` classes or fewer, where it is 1 by definition; `top5_accuracy` likewise with five. `ece` is the calibration error
    over the bins of `reliability`, NaN with too few images for bins. `majority_baseline` is the accuracy of always predicting
    `majority_class`, the most frequent class of the training images; None if these are unknown. `baselines` holds it and further
    baselines. `confusion` is int64 (K, K), rows true.
    """

    split: str
    n: int
    units: int
    accuracy: Estimate
    loss: Estimate
    macro_f1: Estimate
    balanced_accuracy: Estimate
    top5_accuracy: Estimate | None
    top_k: int
    top_k_accuracy: Estimate | None
    weighted_f1: float
    weighted_f1_interval: tuple[float, float]
    roc_auc: Estimate
    average_precision: Estimate
    brier: Estimate
    ece: Estimate
    reliability: tuple[ReliabilityBin, ...]
    majority_baseline: float | None
    majority_class: str | None
    baselines: tuple[Baseline, ...]
    per_class: tuple[ClassScore, ...]
    classes: tuple[str, ...]
    confusion: Counts

    def __repr__(self) -> str:
        return f"ClassificationReport({self.summary})"

    @property
    def summary(self) -> str:
        """The images and the main scores in a line: ``test: 20 images, 3 classes, accuracy 0.9000 (0.6990 to 0.9721), loss 0.3121``."""
        accuracy = f"accuracy {self.accuracy.value:.4f} ({self.accuracy.low:.4f} to {self.accuracy.high:.4f})"
        return f"{self.split}: {counted(self.n)}, {len(self.classes)} classes, {accuracy}, loss {self.loss.value:.4f}"

    def to_dict(self, *, confusion: bool = False) -> dict[str, Any]:
        """Return the object of metrics.json, strictly valid JSON; with `confusion` also the keys ``classes`` and ``confusion``."""
        top_k = {"k": self.top_k, **self.top_k_accuracy.to_dict()} if self.top_k_accuracy else None
        result: dict[str, Any] = {
            "split": self.split,
            "n": self.n,
            "units": self.units,
            "accuracy": self.accuracy.to_dict(),
            "loss": self.loss.to_dict(),
            "macro_f1": self.macro_f1.to_dict(),
            "balanced_accuracy": self.balanced_accuracy.to_dict(),
            "top5_accuracy": self.top5_accuracy.to_dict() if self.top5_accuracy else None,
            "top_k_accuracy": top_k,
            "weighted_f1": finite(self.weighted_f1),
            "weighted_f1_low": self.weighted_f1_interval[0],
            "weighted_f1_high": self.weighted_f1_interval[1],
            "roc_auc": self.roc_auc.to_dict(),
            "average_precision": self.average_precision.to_dict(),
            "brier": self.brier.to_dict(),
            "ece": self.ece.to_dict(),
            "reliability": [one.to_dict() for one in self.reliability],
            "majority_baseline": self.majority_baseline,
            "majority_class": self.majority_class,
            "baselines": [one.to_dict() for one in self.baselines],
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
    top_k: int = TOP_K,
    units: Units | None = None,
    majority_class: str | None = None,
) -> ClassificationReport:
    """Score `probabilities` (N, K) against `labels` (N,), integers that index `classes` (K,).

    The predicted class is the first class of highest probability. `losses` (N,) are -log p of the true class in nats. By default they
    come from `probabilities`, where a 0 counts as the smallest positive number of its type. `split` (train, val, test) is only
    recorded. By default every image is a unit of its own. `majority_class` is the most frequent class
    of the training images; without it there is no constant baseline.

    Proportions have Wilson's intervals, means of F1 and recall a bootstrap over the counts. The loss and the Brier score have a
    stratified bootstrap over the images, ROC-AUC and average precision DeLong's intervals. All of them count units.
    Raises `DataError` for no image, shapes that do not fit, labels out of range, or numbers that are not probabilities.
    """
    true, probs = np.asarray(labels), np.asarray(probabilities)
    _check(true, probs, classes)
    predicted = probs.argmax(axis=1)
    table = confusion_counts(true, predicted, len(classes))
    table.setflags(write=False)
    n = len(true)
    found = units or Units.single(n)
    ranks = _rank(true, probs)
    scored = _Scored(true, predicted, len(classes), found)
    weighted_f1 = scored.mean_over_classes(weighted_f1_of)
    ordering = rank(true, probs)
    own = _losses(true, probs) if losses is None else _one_per_image(losses, n)
    loss, brier = _means(true, own, brier_scores(true, probs), found)
    constant = _constant_baseline(majority_class, classes, true, predicted == true, found)
    return ClassificationReport(
        split=split,
        n=n,
        units=found.count,
        accuracy=proportion(predicted == true, found),
        loss=loss,
        macro_f1=scored.mean_over_classes(macro_f1_of),
        balanced_accuracy=scored.mean_over_classes(balanced_accuracy_of),
        top5_accuracy=_top(ranks, TOP_K, len(classes), found),
        top_k=top_k,
        top_k_accuracy=_top(ranks, top_k, len(classes), found),
        weighted_f1=weighted_f1.value,
        weighted_f1_interval=(weighted_f1.low, weighted_f1.high),
        roc_auc=scored.bounded(area_interval(ordering.roc_auc, ordering.roc_auc_influence, units=found)),
        average_precision=scored.bounded(area_interval(ordering.average_precision, ordering.average_precision_influence, units=found)),
        brier=brier,
        ece=calibration_error(true, probs, units=found),
        reliability=reliability_bins(true, probs, units=found),
        majority_baseline=constant.accuracy.value if constant else None,
        majority_class=majority_class,
        baselines=(constant,) if constant else (),
        per_class=class_scores(true, predicted, classes, found),
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
        raise DataError("no image to evaluate: the split is empty; choose another split with --split, or split the data again")
    check_indices("labels", labels, len(classes))
    wrong = ~((probabilities >= 0) & (probabilities <= 1 + 1e-3)).all(axis=1)  # also true for NaN; half precision may round above 1
    if wrong.any():
        raise DataError(
            f"the outputs for {int(wrong.sum())} of {len(labels)} images are not probabilities (NaN or outside 0..1), first in row "
            f"{int(wrong.argmax())}: the model's weights may be damaged, or its outputs are logits; train again with a lower --lr"
        )


def _one_per_image(losses: ArrayLike, n: int) -> NDArray[np.float64]:
    values = np.asarray(losses, dtype=np.float64)
    if values.shape != (n,):
        raise DataError(f"losses of shape {values.shape} for {n} images: they must be ({n},), one per image")
    return values


def _losses(labels: NDArray[Any], probabilities: NDArray[Any]) -> NDArray[np.float64]:
    own = probabilities[np.arange(len(labels)), labels]
    smallest = np.finfo(own.dtype).tiny if np.issubdtype(own.dtype, np.floating) else np.finfo(np.float64).tiny
    return -np.log(np.maximum(own, smallest).astype(np.float64))


def _rank(labels: NDArray[Any], probabilities: NDArray[Any]) -> NDArray[np.int64]:
    """Return the number of classes ranked before the true class, (N,); the first of equal probabilities ranks first, as in argmax."""
    own = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    return ((probabilities > own) | ((probabilities == own) & earlier)).sum(axis=1)


def _top(ranks: NDArray[np.int64], k: int, num_classes: int, units: Units) -> Estimate | None:
    return proportion(ranks < k, units) if num_classes > k else None


def _constant_baseline(
    majority_class: str | None, classes: Sequence[str], labels: NDArray[Any], right: NDArray[np.bool_], units: Units
) -> Baseline | None:
    """Return the baseline that always predicts the most frequent class of the training images, None if that is unknown."""
    if majority_class is None:
        return None
    constant = labels == list(classes).index(majority_class)
    return baseline(MAJORITY_BASELINE, f"always predicting {majority_class}", constant, right, units=units)


def _means(labels: NDArray[Any], losses: NDArray[np.float64], squares: NDArray[np.float64], units: Units) -> tuple[Estimate, Estimate]:
    """Return the loss and the Brier score with intervals from the same draws of units."""
    values = (float(losses.mean()), float(squares.mean()))
    influences = np.stack([losses - values[0], squares - values[1]], axis=1) / len(labels)
    loss, brier = bootstrap_rows(labels, values, influences, units=units)
    return loss, brier


@dataclass(frozen=True, eq=False)
class _Scored:
    """Labels and predictions of N images as indices of `classes` classes, and their units."""

    labels: NDArray[np.integer]
    predicted: NDArray[np.integer]
    classes: int
    units: Units

    def mean_over_classes(self, statistic: Callable[[Margins], Scores]) -> Estimate:
        """Return a mean over classes with its bootstrap interval, which has a width even if every resample gives the same score."""
        return self.bounded(bootstrap_confusion(self.labels, self.predicted, self.classes, statistic, self.units))

    def bounded(self, estimate: Estimate) -> Estimate:
        """Return the estimate of a mean over classes with an interval inside [0, 1] that has a width.

        Every resample of a table without a mistake is a table without a mistake. Its interval is Wilson's for K² / Σ(1/nₖ) units. A
        proportion of this number of units has the variance of a mean of K proportions of nₖ units each.
        """
        if math.isnan(estimate.value):
            return estimate
        if estimate.low < estimate.high:
            return Estimate(estimate.value, max(0.0, estimate.low), min(1.0, estimate.high))
        support = np.array([self.units.of_rows(self.labels == label).count for label in np.unique(self.labels)])
        worth = len(support) ** 2 / float((1 / support).sum())
        return wilson(estimate.value * worth, worth)
