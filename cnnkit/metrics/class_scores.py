"""Precision, recall and F1 of each class, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnkit.metrics.counts import Margins, confusion_counts, margins
from cnnkit.metrics.intervals import Estimate, f1_interval
from cnnkit.metrics.proportion import finite, wilson
from cnnkit.metrics.scores import f1_of, precision_of, recall_of
from cnnkit.metrics.units import Units, proportion

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_CLASS_IMAGES = 30  # below, the 95 % interval of a recall near 0.9 is wider than 20 points (Wilson, 27 of 30: 74 to 97 %)

Interval = tuple[float, float]
_Shares = tuple[int, Estimate, Estimate, Estimate]


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class in [0, 1], NaN if undefined (see `cnnkit.metrics.scores`); `support` images have this label.

    These images are of `units` units. Precision and recall have the 95 % intervals of proportions, over the images predicted as this
    class and over the class's images. F1 has `f1_interval`. The interval of an undefined score is [0, 1].
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    units: int = 0
    precision_interval: Interval = (0.0, 1.0)
    recall_interval: Interval = (0.0, 1.0)
    f1_interval: Interval = (0.0, 1.0)

    @property
    def has_few_images(self) -> bool:
        """Tell whether the class has fewer than `MIN_CLASS_IMAGES` units, so that its scores are rough."""
        return self.units < MIN_CLASS_IMAGES

    def to_dict(self) -> dict[str, Any]:
        """Return the row of metrics.json; an undefined score is None (null)."""
        ends = (("precision", self.precision_interval), ("recall", self.recall_interval), ("f1", self.f1_interval))
        return {
            "class": self.name,
            "precision": finite(self.precision),
            "recall": finite(self.recall),
            "f1": finite(self.f1),
            "support": self.support,
            "units": self.units,
            "few": self.has_few_images,
            **{f"{name}_{end}": value for name, interval in ends for end, value in zip(("low", "high"), interval, strict=True)},
        }


def class_scores(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: Sequence[str], units: Units
) -> tuple[ClassScore, ...]:
    """Return the scores of each of K classes from the class indices `labels` and `predicted` (N,); the intervals count `units`."""
    sums = margins(confusion_counts(labels, predicted, len(classes)))
    precision, recall, f1 = precision_of(sums), recall_of(sums), f1_of(sums)
    shares = _independent_shares(sums) if units.are_single else _shares(labels, predicted, len(classes), units)
    return tuple(
        ClassScore(
            name=name,
            precision=float(precision[index]),
            recall=float(recall[index]),
            f1=float(f1[index]),
            support=int(sums.support[index]),
            units=number,
            precision_interval=_ends(of_predicted),
            recall_interval=_ends(of_class),
            f1_interval=_ends(f1_interval(of_either)),
        )
        for index, (name, (number, of_predicted, of_class, of_either)) in enumerate(zip(classes, shares, strict=True))
    )


def _independent_shares(sums: Margins) -> Iterator[_Shares]:
    """Yield the units and the shares of hits of each class, for images that are all independent; the counts (K,) tell all."""
    for hits, support, predicted in zip(sums.hits.tolist(), sums.support.tolist(), sums.predicted.tolist(), strict=True):
        yield support, wilson(hits, predicted), wilson(hits, support), wilson(hits, support + predicted - hits)


def _shares(labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int, units: Units) -> Iterator[_Shares]:
    """Yield the units of each class, and the shares of hits among the images predicted as it, among its images, and among both."""
    for index in range(classes):
        of_class, as_class = labels == index, predicted == index
        hits = of_class & as_class
        shares = [proportion(hits[rows], units.of_rows(rows)) for rows in (as_class, of_class, of_class | as_class)]
        yield units.of_rows(of_class).count, shares[0], shares[1], shares[2]


def _ends(estimate: Estimate) -> Interval:
    return estimate.low, estimate.high
