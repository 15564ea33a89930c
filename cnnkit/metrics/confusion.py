"""Confused classes: shares and pairs of a confusion matrix, and an order that makes confused classes neighbours."""

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
SHARE_OF = {"true": "the true class", "pred": "the predicted class", "all": "all images"}  # the whole of a normalised cell
_MAX_OPTIMAL_CLASSES = 400  # the optimal order within the clusters takes 0.06 s; for 1,000 classes it would take 1.4 s


@dataclass(frozen=True)
class ConfusedPair:
    """A kind of mistake: `count` images of class `true`, a `share` in [0, 1] of them, are predicted as `predicted`."""

    true: str
    predicted: str
    count: int
    share: float


def most_confused(table: Counts, classes: Sequence[str], limit: int = 15) -> list[ConfusedPair]:
    """Return up to `limit` mistakes of a (K, K) table, by count, then by share of the true class, the largest first."""
    mistakes = table.copy()
    np.fill_diagonal(mistakes, 0)
    rows, columns = np.nonzero(mistakes)
    counts = mistakes[rows, columns]
    shares = counts / table.sum(axis=1)[rows]
    order = np.lexsort((columns, rows, -shares, -counts))[:limit]
    return [ConfusedPair(classes[int(rows[i])], classes[int(columns[i])], int(counts[i]), float(shares[i])) for i in order]


def normalized(table: Counts, normalize: Normalize) -> Scores:
    """Return a (K, K) table as shares in [0, 1] of the row (``true``), the column (``pred``) or all images, or the counts (``none``).

    The shares of a row or column without images are 0.
    """
    if normalize == "none":
        return table.astype(np.float64)
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    whole = table.sum(axis=axis, keepdims=True)
    return np.divide(table, whole, out=np.zeros(table.shape), where=whole > 0)


def confusion_order(table: Counts) -> NDArray[np.intp]:
    """Return an order of the classes (K,) in which confused classes are neighbours.

    The order comes from hierarchical clustering (average linkage). The similarity of two classes is the mean of their two shares of
    confusion. Classes without a confusion come last, in their own order.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    shares = normalized(table, "true")
    np.fill_diagonal(shares, 0)
    alike = (shares + shares.T) / 2
    confused = np.flatnonzero(alike.any(axis=0))
    alone = np.flatnonzero(~alike.any(axis=0))
    if len(confused) < 3:  # noqa: PLR2004 - two classes have only one order
        return np.concatenate([confused, alone])
    distance = 1 - np.sqrt(alike[np.ix_(confused, confused)])  # the root keeps a confusion of 1 % visible in the average
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), method="average", optimal_ordering=len(confused) <= _MAX_OPTIMAL_CLASSES)
    return np.concatenate([confused[leaves_list(tree)], alone])


def most_confused_ranges(table: Counts, width: int, limit: int) -> list[int]:
    """Return the first indices of up to `limit` disjoint ranges of `width` neighbouring classes with the most mistakes inside."""
    mistakes = table.copy()
    np.fill_diagonal(mistakes, 0)
    inside = np.pad(mistakes.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    starts = np.arange(max(0, len(table) - width) + 1)
    ends = np.minimum(starts + width, len(table))
    sums = inside[ends, ends] - inside[starts, ends] - inside[ends, starts] + inside[starts, starts]
    chosen: list[int] = []
    for start in np.argsort(-sums, kind="stable").tolist():
        if len(chosen) < limit and sums[start] and all(abs(start - other) >= width for other in chosen):
            chosen.append(start)
    return sorted(chosen)
