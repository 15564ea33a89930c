"""Drift: a comparison of new images with a stored fingerprint of known images.

The fingerprint is a histogram of each feature for each predicted class, taken on images that the weights were not fitted to. The
features are the appearance of an image and the confidence of the model. New images are compared with a mixture of these histograms
that has the same shares of predicted classes. A folder of ants alone is therefore another mixture, but no drift.

The distance is that of Kolmogorov and Smirnov: the largest difference of two cumulative distributions (0 equal, 1 disjoint), taken
at the edges of the bins. Its p-value is the bound of Dvoretzky, Kiefer and Wolfowitz, 2 exp(-2 n D²), with the effective n of two
samples. The bound holds for every n (Massart 1990, Annals of Probability 18:1269).

A few images have no distribution. Each is compared with the range of the known images alone: see `find_outliers`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 20  # of equal mass over all images of the fingerprint
MIN_IMAGES = 30  # fewer images would only show a distance above 0.34
MAX_FALSE_ALERTS = 0.01  # as a share of the sets of images from the source of the fingerprint
MIN_DISTANCE = 0.1  # thousands of images make even a harmless difference significant
# On either side of the range of the known images, as a share of it. 0.8 % of the usual images of five sets are then outliers, without
# a margin 4.4 %: see docs/benchmarks/LOG.md, "Outliers by their range".
RANGE_MARGIN = 0.1


@dataclass(frozen=True)
class Fingerprint:
    """The appearance of `n` images of `split` as a histogram of B bins for each feature and predicted class.

    `features` (F) are names, `edges` (F, B - 1) the inner edges of the bins, `counts` (F, K, B) the images in each bin. `ranges`
    (F, 2) are the least and the largest value of each feature; older model files have none.
    """

    features: tuple[str, ...]
    edges: tuple[tuple[float, ...], ...]
    counts: tuple[tuple[tuple[int, ...], ...], ...]
    n: int
    split: str
    ranges: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Outlier:
    """An image, number `image` from 0, whose `feature` has a `value` far outside the range `low` to `high` of the known images."""

    image: int
    feature: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class FeatureShift:
    """The shift of one feature: its `distance` (0 to 1), the corrected p-value `p`, and two medians in the feature's unit.

    `median` belongs to the new images, `usual` to the mixture of the fingerprint, estimated from its bins.
    """

    feature: str
    distance: float
    p: float
    median: float
    usual: float

    @property
    def is_shifted(self) -> bool:
        """Tell whether the distance is significant and at least `MIN_DISTANCE`."""
        return self.p <= MAX_FALSE_ALERTS and self.distance >= MIN_DISTANCE


@dataclass(frozen=True)
class Drift:
    """The comparison of `n` new images with a fingerprint of `reference` images of `split`, the most distant feature first."""

    n: int
    reference: int
    split: str
    shifts: tuple[FeatureShift, ...]

    @property
    def has_alert(self) -> bool:
        """Tell whether at least one feature is shifted."""
        return any(shift.is_shifted for shift in self.shifts)

    def to_dict(self) -> dict[str, Any]:
        """Return the object of drift.json: every number, the decisions and their limits."""
        limits = {"level": MAX_FALSE_ALERTS, "smallest_distance": MIN_DISTANCE}
        shifts = [{**asdict(shift), "shifted": shift.is_shifted} for shift in self.shifts]
        return {"alarm": self.has_alert, "n": self.n, "reference": self.reference, "split": self.split, **limits, "features": shifts}


def fingerprint(features: Sequence[str], values: NDArray[Any], predicted: NDArray[Any], classes: int, *, split: str) -> Fingerprint:
    """Return the fingerprint of N images: `values` (N, F) of `features`, and the `predicted` classes (N,), of K `classes`."""
    edges = _rounded(np.quantile(values.astype(np.float64), np.arange(1, BINS) / BINS, axis=0).T)
    ranges = _rounded(np.stack([values.min(0), values.max(0)], axis=1))
    cells = np.stack([_bins(values[:, index], line) for index, line in enumerate(edges)])
    counts = [[np.bincount(row[predicted == label], minlength=BINS).tolist() for label in range(classes)] for row in cells]
    lines, tables = tuple(map(tuple, edges.tolist())), tuple(tuple(map(tuple, table)) for table in counts)
    return Fingerprint(tuple(features), lines, tables, len(values), split, tuple((low, high) for low, high in ranges.tolist()))


def compare(known: Fingerprint, values: NDArray[Any], predicted: NDArray[Any]) -> Drift:
    """Compare N new images, `values` (N, F) and `predicted` classes (N,), with a fingerprint of the same F features."""
    counts, edges = np.array(known.counts, dtype=np.float64), np.array(known.edges)
    per_class = counts[0].sum(axis=1)
    shares = np.bincount(predicted, minlength=len(per_class)) / len(predicted)
    seen = per_class > 0
    pooled = shares[~seen].sum()  # a class without a prediction in the fingerprint is compared with all its images
    inverse_n = 1 / len(values) + (shares[seen] ** 2 / per_class[seen]).sum() + pooled**2 / known.n
    shifts: list[FeatureShift] = []
    for index, feature in enumerate(known.features):
        now = np.bincount(_bins(values[:, index], edges[index]), minlength=BINS) / len(values)
        usual = (shares[seen] / per_class[seen]) @ counts[index][seen] + pooled * counts[index].sum(axis=0) / known.n
        distance = float(np.abs(np.cumsum(now - usual)[:-1]).max())
        p = 2 * math.exp(-2 * distance**2 / inverse_n) * len(known.features)  # Bonferroni: each feature may raise an alert
        median = float(np.median(values[:, index]))
        shifts.append(FeatureShift(feature, distance, min(1.0, p), median, _median(usual, edges[index])))
    return Drift(len(values), known.n, known.split, tuple(sorted(shifts, key=lambda shift: -shift.distance)))


def find_outliers(known: Fingerprint, values: NDArray[Any]) -> list[Outlier]:
    """Return the images that lie outside the range of the known images by more than `RANGE_MARGIN`.

    `values` (N, F) are the first F features of the fingerprint. An outlier has the feature that is furthest outside. An older
    fingerprint without ranges has no outliers.
    """
    if not known.ranges:
        return []
    low, high = np.array(known.ranges[: values.shape[1]]).T
    width = np.maximum(high - low, np.finfo(np.float32).eps)
    outside = np.maximum(low - values, values - high) / width
    furthest = outside.argmax(1)
    return [
        Outlier(image, known.features[index], float(values[image, index]), *known.ranges[index])
        for image, index in enumerate(furthest)
        if outside[image, index] > RANGE_MARGIN
    ]


def _rounded(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return `values` in the precision of the model file, six digits."""
    return np.array([[float(f"{value:.6g}") for value in line] for line in values.tolist()])


def _bins(values: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.searchsorted(edges, values.astype(np.float64), side="left")


def _median(shares: NDArray[np.float64], edges: NDArray[np.float64]) -> float:
    """Return the median of a histogram, interpolated within its bin; the outer bins are open and give their edge."""
    cumulated = np.cumsum(shares)
    index = min(int(np.searchsorted(cumulated, 0.5)), len(edges))
    if index in {0, len(edges)}:
        return float(edges[min(index, len(edges) - 1)])
    return float(np.interp(0.5, cumulated[index - 1 : index + 1], edges[index - 1 : index + 1]))
