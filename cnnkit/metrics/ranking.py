"""ROC-AUC and average precision of each class against the rest, and the influence of each image on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnnkit.metrics.intervals import CONFIDENCE, Estimate
from cnnkit.metrics.units import Units, normal_quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Means over the classes that have images, NaN for a single class, and the influence of each image on them, (N,).

    `cnnkit.metrics.resampling` explains the influence.
    """

    roc_auc: float
    average_precision: float
    roc_auc_influence: Floats
    average_precision_influence: Floats


def area_interval(value: float, influence: Floats, confidence: float = CONFIDENCE, units: Units | None = None) -> Estimate:
    """Return an area under a curve with its interval, from the influence of each image (N,).

    The variance is that of DeLong, DeLong and Clarke-Pearson (1988, Biometrics 44:837). The interval is symmetric in log(A / (1 - A)),
    which keeps it away from 0 and 1 (Pepe 2003, section 5.2.4). The percentiles of a bootstrap over the images hold the truth less
    often: see docs/benchmarks/LOG.md, "Areas under curves by a bootstrap". The interval of a NaN area is NaN, and an area of 0 or 1 has
    an interval without width. With `units`, the influences of a unit's images add up before they are squared.
    """
    if math.isnan(value) or value in {0.0, 1.0}:
        return Estimate(value, value, value)
    if units is not None and not units.are_single:
        influence = units.sums(influence) * units.widening(confidence)
    half = normal_quantile(confidence) * float(np.sqrt((influence**2).sum())) / (value * (1 - value))
    centre = math.log(value / (1 - value))
    low, high = ((1 + math.tanh(end / 2)) / 2 for end in (centre - half, centre + half))  # 1 / (1 + exp(-end)), without an overflow
    return Estimate(value, min(value, low), max(value, high))


def rank(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> Ranking:
    """Rank the N images by the probability of each class in turn; `labels` (N,) index the columns of `probabilities` (N, K).

    ROC-AUC is the probability that an image of the class has a higher score than an image of another class; a tie counts half. Average
    precision is the mean precision at the scores of the images of the class. Both equal scikit-learn's values for each class against
    the rest, averaged over the classes that occur.

    The function sorts only the images of a class and looks up all others among them, which takes less work for more classes.
    """
    n, sizes = len(labels), np.bincount(labels, minlength=probabilities.shape[1])
    areas: list[float] = []
    precisions: list[float] = []
    area_influence, precision_influence = np.zeros(n), np.zeros(n)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    for label in np.flatnonzero((sizes > 0) & (sizes < n)):
        probs = np.ascontiguousarray(probabilities[:, label])
        members = by_class[label][np.argsort(probs[by_class[label]], kind="stable")]
        _one_class(probs, members, areas, area_influence, precisions, precision_influence)
    count = len(areas)
    if not count:
        return Ranking(np.nan, np.nan, area_influence, precision_influence)
    return Ranking(float(np.mean(areas)), float(np.mean(precisions)), area_influence / count, precision_influence / count)


def _one_class(
    probs: NDArray[np.floating],
    members: NDArray[np.intp],
    areas: list[float],
    area_influence: Floats,
    precisions: list[float],
    precision_influence: Floats,
) -> None:
    """Add one class to the sums; `members` are its images by rising probability, `probs` (N,) the probabilities of all images."""
    sorted_probs = probs[members]
    own, others = len(members), len(probs) - len(members)
    below, upto = np.searchsorted(sorted_probs, probs, "left"), np.searchsorted(sorted_probs, probs, "right")
    lower, higher = below[members], upto[members]
    # images of other classes below each image of the class, without and with ties
    less = np.cumsum(np.bincount(upto, minlength=own + 1) - np.bincount(higher, minlength=own + 1))[lower]
    as_much = np.cumsum(np.bincount(below, minlength=own + 1) - np.bincount(lower, minlength=own + 1))[lower]

    wins = (less + as_much) / (2 * others)  # of an image of the class
    area = float(wins.mean())
    moved = ((1 - area) - (below + upto) / (2 * own)) / others
    moved[members] = (wins - area) / own
    areas.append(area)
    area_influence += moved

    found, wrong = own - lower, others - less  # at or above each image of the class
    seen = found + wrong
    precision = found / seen
    mean = float(precision.mean())
    # An image of another class lowers the precision at all class images that do not rank above it; a class image raises it.
    loss = np.concatenate([[0.0], np.cumsum(found / seen**2)])
    gain = np.concatenate([[0.0], np.cumsum(wrong / seen**2)])
    moved = -loss[upto] / own
    moved[members] = (precision - mean + gain[higher]) / own
    precisions.append(mean)
    precision_influence += moved
