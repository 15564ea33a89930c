"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnkit.metrics.counts import Counts


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
