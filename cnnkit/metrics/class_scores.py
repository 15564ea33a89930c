"""Precision, recall and F1 of each class, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnnkit.metrics.counts import Margins
from cnnkit.metrics.intervals import Estimate, f1_interval, wilson
from cnnkit.metrics.proportion import finite
from cnnkit.metrics.scores import f1_of, precision_of, recall_of

MIN_CLASS_IMAGES = 30  # below, the 95 % interval of a recall near 0.9 is wider than 20 points (Wilson, 27 of 30: 74 to 97 %)

Interval = tuple[float, float]


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class in [0, 1], NaN if undefined (see `cnnkit.metrics.scores`); `support` images have this label.

    Precision and recall have Wilson's 95 % intervals, over the images predicted as this class and over the class's images. F1 has
    `f1_interval`. The interval of an undefined score is [0, 1].
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    precision_interval: Interval = (0.0, 1.0)
    recall_interval: Interval = (0.0, 1.0)
    f1_interval: Interval = (0.0, 1.0)

    @property
    def has_few_images(self) -> bool:
        """Tell whether the class has fewer than `MIN_CLASS_IMAGES` images, so that its scores are rough."""
        return self.support < MIN_CLASS_IMAGES

    def to_dict(self) -> dict[str, Any]:
        """Return the row of metrics.json; an undefined score is None (null)."""
        ends = (("precision", self.precision_interval), ("recall", self.recall_interval), ("f1", self.f1_interval))
        return {
            "class": self.name,
            "precision": finite(self.precision),
            "recall": finite(self.recall),
            "f1": finite(self.f1),
            "support": self.support,
            "few": self.has_few_images,
            **{f"{name}_{end}": value for name, interval in ends for end, value in zip(("low", "high"), interval, strict=True)},
        }


def class_scores(sums: Margins, classes: Sequence[str]) -> tuple[ClassScore, ...]:
    """Return the scores of each of K classes from the margins (K,) of one table."""
    precision, recall, f1 = precision_of(sums), recall_of(sums), f1_of(sums)
    rows = zip(sums.hits.tolist(), sums.support.tolist(), sums.predicted.tolist(), strict=True)
    return tuple(
        ClassScore(
            name=classes[index],
            precision=float(precision[index]),
            recall=float(recall[index]),
            f1=float(f1[index]),
            support=support,
            precision_interval=_ends(wilson(hits, predicted)),
            recall_interval=_ends(wilson(hits, support)),
            f1_interval=_ends(f1_interval(hits, support, predicted)),
        )
        for index, (hits, support, predicted) in enumerate(rows)
    )


def _ends(estimate: Estimate) -> Interval:
    return estimate.low, estimate.high
