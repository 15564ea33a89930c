"""How well the probability of a class ranks its images before the others: ROC-AUC and average precision, one class against the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from cnnkit.metrics.intervals import CONFIDENCE, Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Means over the classes that have images, NaN if fewer than two have; and each image's influence on them, (N,), see `resampling`."""

    roc_auc: float
    average_precision: float
    roc_auc_influence: Floats
    average_precision_influence: Floats


def area_interval(value: float, influence: Floats, confidence: float = CONFIDENCE) -> Estimate:
    """Return an area under a curve with its interval, from each image's influence (N,) on it.

    The variance is that of DeLong, DeLong and Clarke-Pearson 1988 (Biometrics 44:837), the interval symmetric in log(A / (1 - A)), which
    the ends of [0, 1] are far from (Pepe 2003, section 5.2.4). The percentiles of a bootstrap over the images hold the truth more
    rarely: see docs/benchmarks/LOG.md, "Areas under curves by a bootstrap". NaN where the area is; without width where it is 0 or 1.
    """
    if math.isnan(value) or value in {0.0, 1.0}:
        return Estimate(value, value, value)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * float(np.sqrt((influence**2).sum())) / (value * (1 - value))
    centre = math.log(value / (1 - value))
    low, high = ((1 + math.tanh(end / 2)) / 2 for end in (centre - half, centre + half))  # 1 / (1 + exp(-end)), without an overflow
    return Estimate(value, min(value, low), max(value, high))


def rank(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> Ranking:
    """Rank the N images by the probability of each class in turn; `labels` (N,) index the columns of `probabilities` (N, K).

    ROC-AUC is the chance that an image of the class has a higher probability of it than one of another class, a tie counting half;
    average precision the mean, over the images of the class, of the precision at their probability. Both are those of scikit-learn for
    every class against the rest, averaged over the classes that occur.

    The images of a class are sorted and all others looked up among them, which is the less work the more classes there are.
    """
    n, sizes = len(labels), np.bincount(labels, minlength=probabilities.shape[1])
    areas: list[float] = []
    precisions: list[float] = []
    area_influence, precision_influence = np.zeros(n), np.zeros(n)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    for label in np.flatnonzero((sizes > 0) & (sizes < n)):
        chances = np.ascontiguousarray(probabilities[:, label])
        members = by_class[label][np.argsort(chances[by_class[label]], kind="stable")]
        _one_class(chances, members, areas, area_influence, precisions, precision_influence)
    count = len(areas)
    if not count:
        return Ranking(np.nan, np.nan, area_influence, precision_influence)
    return Ranking(float(np.mean(areas)), float(np.mean(precisions)), area_influence / count, precision_influence / count)


def _one_class(
    chances: NDArray[np.floating],
    members: NDArray[np.intp],
    areas: list[float],
    area_influence: Floats,
    precisions: list[float],
    precision_influence: Floats,
) -> None:
    """Add one class to the sums; `members` are its images by rising probability, `chances` (N,) the probabilities of all."""
    mine = chances[members]
    own, others = len(members), len(chances) - len(members)
    below, upto = np.searchsorted(mine, chances, "left"), np.searchsorted(mine, chances, "right")  # of its images, for every image
    lower, higher = below[members], upto[members]
    # of the others, how many lie below each of its images, or level with it
    less = np.cumsum(np.bincount(upto, minlength=own + 1) - np.bincount(higher, minlength=own + 1))[lower]
    as_much = np.cumsum(np.bincount(below, minlength=own + 1) - np.bincount(lower, minlength=own + 1))[lower]

    wins = (less + as_much) / (2 * others)  # of an image of the class
    area = float(wins.mean())
    moved = ((1 - area) - (below + upto) / (2 * own)) / others
    moved[members] = (wins - area) / own
    areas.append(area)
    area_influence += moved

    found, wrong = own - lower, others - less  # at or above each of its images
    seen = found + wrong
    precision = found / seen
    mean = float(precision.mean())
    # One more image of another class lowers the precision at every image of the class that it is not below; one of the class raises it.
    loss = np.concatenate([[0.0], np.cumsum(found / seen**2)])
    gain = np.concatenate([[0.0], np.cumsum(wrong / seen**2)])
    moved = -loss[upto] / own
    moved[members] = (precision - mean + gain[higher]) / own
    precisions.append(mean)
    precision_influence += moved
