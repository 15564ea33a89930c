"""Whether new images look unlike those a model knows: their appearance and the model's confidence against a stored fingerprint.

The fingerprint is a histogram of every feature for every predicted class, taken on images that the weights were not fitted to. New
images are compared with the mixture of these histograms that has their own shares of predicted classes: a folder of ants alone is no
drift, only another mixture. The distance is Kolmogorov and Smirnov's, the largest difference of two cumulative distributions (0 the
same, 1 apart), looked at where the histogram's bins meet. Its p-value is the bound of Dvoretzky, Kiefer and Wolfowitz, 2 exp(-2 n D²),
which holds for every n (Massart 1990, Annals of Probability 18:1269), with the effective n of two samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 20  # of equal mass over all images of the fingerprint
FEWEST = 30  # images: of fewer, only a distance above 0.34 could be told from chance
LEVEL = 0.01  # share of false alarms: at most one in 100 sets of images like those of the fingerprint
SMALLEST = 0.1  # distance: of thousands of images also a difference that does no harm would be significant


@dataclass(frozen=True)
class Fingerprint:
    """What `n` images of `split` looked like: `features` (F), inner `edges` (F, B - 1) of B bins, `counts` (F, K, B) by predicted class."""

    features: tuple[str, ...]
    edges: tuple[tuple[float, ...], ...]
    counts: tuple[tuple[tuple[int, ...], ...], ...]
    n: int
    split: str


@dataclass(frozen=True)
class FeatureShift:
    """One feature: its `distance` (0 to 1) and the corrected `p` of one as large by chance; medians in the feature's unit.

    `median` is that of the new images, `usual` that of the fingerprint's mixture, as far as its bins tell.
    """

    feature: str
    distance: float
    p: float
    median: float
    usual: float

    @property
    def shifted(self) -> bool:
        """Whether it is beyond chance and large enough to matter."""
        return self.p <= LEVEL and self.distance >= SMALLEST


@dataclass(frozen=True)
class Drift:
    """How `n` new images compare with a fingerprint, feature by feature, the most distant first."""

    n: int
    reference: int
    split: str
    shifts: tuple[FeatureShift, ...]

    @property
    def alarm(self) -> bool:
        """Whether the images look unlike those the model knows."""
        return any(shift.shifted for shift in self.shifts)

    def to_dict(self) -> dict[str, Any]:
        """Return every number, with what was decided and by which limits."""
        limits = {"level": LEVEL, "smallest_distance": SMALLEST}
        shifts = [{**asdict(shift), "shifted": shift.shifted} for shift in self.shifts]
        return {"alarm": self.alarm, "n": self.n, "reference": self.reference, "split": self.split, **limits, "features": shifts}


def fingerprint(features: Sequence[str], values: NDArray[Any], predicted: NDArray[Any], classes: int, *, split: str) -> Fingerprint:
    """Return the fingerprint of N images: `values` (N, F) of `features`, and the `predicted` classes (N,), of K `classes`."""
    quantiles = np.quantile(values.astype(np.float64), np.arange(1, BINS) / BINS, axis=0).T
    edges = np.array([[float(f"{edge:.6g}") for edge in line] for line in quantiles])  # as they will stand in the file
    cells = np.stack([_bins(values[:, place], line) for place, line in enumerate(edges)])
    counts = [[np.bincount(row[predicted == label], minlength=BINS).tolist() for label in range(classes)] for row in cells]
    lines, tables = tuple(map(tuple, edges.tolist())), tuple(tuple(map(tuple, table)) for table in counts)
    return Fingerprint(tuple(features), lines, tables, len(values), split)


def compare(known: Fingerprint, values: NDArray[Any], predicted: NDArray[Any]) -> Drift:
    """Compare N new images, `values` (N, F) and `predicted` classes (N,), with a fingerprint of the same F features."""
    counts, edges = np.array(known.counts, dtype=np.float64), np.array(known.edges)
    per_class = counts[0].sum(axis=1)
    shares = np.bincount(predicted, minlength=len(per_class)) / len(predicted)
    seen = per_class > 0
    pooled = shares[~seen].sum()  # classes that the fingerprint never saw predicted are compared with all its images
    inverse_n = 1 / len(values) + (shares[seen] ** 2 / per_class[seen]).sum() + pooled**2 / known.n
    shifts: list[FeatureShift] = []
    for place, feature in enumerate(known.features):
        now = np.bincount(_bins(values[:, place], edges[place]), minlength=BINS) / len(values)
        usual = (shares[seen] / per_class[seen]) @ counts[place][seen] + pooled * counts[place].sum(axis=0) / known.n
        distance = float(np.abs(np.cumsum(now - usual)[:-1]).max())
        chance = 2 * math.exp(-2 * distance**2 / inverse_n) * len(known.features)  # Bonferroni: any of the features may ring
        median = float(np.median(values[:, place]))
        shifts.append(FeatureShift(feature, distance, min(1.0, chance), median, _median(usual, edges[place])))
    return Drift(len(values), known.n, known.split, tuple(sorted(shifts, key=lambda shift: -shift.distance)))


def _bins(values: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.searchsorted(edges, values.astype(np.float64), side="left")


def _median(shares: NDArray[np.float64], edges: NDArray[np.float64]) -> float:
    """Where half of the mass is reached, on a line through the bin; in an outermost bin, which has no end, its edge."""
    cumulated = np.cumsum(shares)
    place = min(int(np.searchsorted(cumulated, 0.5)), len(edges))
    if place in {0, len(edges)}:
        return float(edges[min(place, len(edges) - 1)])
    return float(np.interp(0.5, cumulated[place - 1 : place + 1], edges[place - 1 : place + 1]))
