"""Which classes are taken for which, as shares, as pairs, and in an order that puts them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from cnnkit.metrics.counts import Counts
from cnnkit.metrics.scores import Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

Normalize = Literal["true", "pred", "all", "none"]  # the words of scikit-learn's confusion_matrix
SHARE_OF = {"true": "the true class", "pred": "the predicted class", "all": "all images"}  # what a normalised cell is a share of
_MOST_OPTIMAL = 400  # classes whose order is the best of those that the clusters allow: 0.06 s; of 1,000 it would take 1.4 s


@dataclass(frozen=True)
class ConfusedPair:
    """`count` images of class `true` were called `predicted`: `share` in [0, 1] of that class's images."""

    true: str
    predicted: str
    count: int
    share: float


def most_confused(table: Counts, classes: Sequence[str], most: int = 15) -> list[ConfusedPair]:
    """Return up to `most` mistakes of a (K, K) table, the largest count first, then the largest share of its class."""
    mistakes = table.copy()
    np.fill_diagonal(mistakes, 0)
    rows, columns = np.nonzero(mistakes)
    counts = mistakes[rows, columns]
    shares = counts / table.sum(axis=1)[rows]
    order = np.lexsort((columns, rows, -shares, -counts))[:most]
    return [ConfusedPair(classes[int(rows[i])], classes[int(columns[i])], int(counts[i]), float(shares[i])) for i in order]


def normalized(table: Counts, normalize: Normalize) -> Scores:
    """Return the shares in [0, 1] of a (K, K) table: of the row (``true``), of the column (``pred``) or of all; 0 where there is no image.

    ``none`` gives the counts themselves.
    """
    if normalize == "none":
        return table.astype(np.float64)
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    whole = table.sum(axis=axis, keepdims=True)
    return np.divide(table, whole, out=np.zeros(table.shape), where=whole > 0)


def confusion_order(table: Counts) -> NDArray[np.intp]:
    """Return an order of the classes (K,) in which those that are taken for each other stand side by side.

    Hierarchical clustering (average linkage) by the mean of the two shares in which a class is called the other. Classes that are
    confused with none come last, in their own order.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    shares = normalized(table, "true")
    np.fill_diagonal(shares, 0)
    alike = (shares + shares.T) / 2
    confused = np.flatnonzero(alike.any(axis=0))
    alone = np.flatnonzero(~alike.any(axis=0))
    if len(confused) < 3:  # noqa: PLR2004 - of two there is one order
        return np.concatenate([confused, alone])
    distance = 1 - np.sqrt(alike[np.ix_(confused, confused)])  # the root keeps a confusion of 1 % from drowning in the average
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), method="average", optimal_ordering=len(confused) <= _MOST_OPTIMAL)
    return np.concatenate([confused[leaves_list(tree)], alone])


def crowded(table: Counts, width: int, most: int) -> list[int]:
    """Return the starts of up to `most` ranges of `width` neighbouring classes, none overlapping, with the most mistakes inside."""
    mistakes = table.copy()
    np.fill_diagonal(mistakes, 0)
    inside = np.pad(mistakes.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    starts = np.arange(max(0, len(table) - width) + 1)
    ends = np.minimum(starts + width, len(table))
    sums = inside[ends, ends] - inside[starts, ends] - inside[ends, starts] + inside[starts, starts]
    chosen: list[int] = []
    for start in np.argsort(-sums, kind="stable").tolist():
        if len(chosen) < most and sums[start] and all(abs(start - other) >= width for other in chosen):
            chosen.append(start)
    return sorted(chosen)
