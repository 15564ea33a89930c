"""Other test sets of the same classes: how a mean over images moves when the images of each class are drawn anew (stratified bootstrap).

Scores are resampled through their influence, the derivative of a score with respect to an image's weight: for means (loss, Brier score)
that is the bootstrap itself, and any number of them shares the draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnkit.metrics.intervals import CONFIDENCE, DRAWS, Estimate, percentiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRATUM = 10  # images; a smaller class drawn from itself alone would seem to vary less than it does (none with one image)
_ENTRIES_AT_ONCE = 1_000_000  # weights held at a time: some 30 MB with what they are made of, whatever the number of images
_MOST_RESAMPLED = 100_000_000  # images of all draws together, 3 s; above 100,000 images there are fewer draws


def bootstrap_rows(
    labels: NDArray[np.integer],
    values: Sequence[float],
    influences: NDArray[np.floating],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> list[Estimate]:
    """Return M scores `values` of N images with their percentile bootstrap intervals.

    `influences` (N, M) are what an image adds to a score for each time it is drawn more than once; they sum to 0 over the images.
    Images are drawn within their class; classes of fewer than `STRATUM` images are drawn together. There are `draws` draws, of more
    than 100,000 images 100,000,000 / N, but 200 at least. One image says nothing about spread: its intervals are NaN.
    """
    if len(labels) == 1:
        return [Estimate(value, math.nan, math.nan) for value in values]
    draws = max(min(draws, DRAWS // 5), min(draws, _MOST_RESAMPLED // len(labels)))
    moved = np.concatenate([weights @ influences for weights in _weights(_strata(labels), draws, seed)])
    return [percentiles(value, value + column, confidence) for value, column in zip(values, moved.T, strict=True)]


def _weights(strata: NDArray[np.int64], draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each image was drawn, (d, N), for all `draws`."""
    rng = np.random.default_rng(seed)
    order = np.argsort(strata, kind="stable")
    _, starts, sizes = np.unique(strata[order], return_index=True, return_counts=True)
    start, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    n = len(strata)
    at_once = max(1, _ENTRIES_AT_ONCE // n)
    for done in range(0, draws, at_once):
        count = min(at_once, draws - done)
        places = start + (rng.random((count, n)) * size).astype(np.int64)
        cells = order[places] + n * np.arange(count)[:, None]
        yield np.bincount(cells.ravel(), minlength=count * n).reshape(count, n).astype(np.float64)


def _strata(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the group that each image is drawn in: its class, or one for all classes that are small."""
    counts = np.bincount(labels)
    by_size = np.argsort(counts, kind="stable")
    together = np.cumsum(counts[by_size])
    # the small ones, and the smallest of the others if all small ones together are still few
    small = (counts[by_size] < STRATUM) | ((together - counts[by_size] < STRATUM) & (together > counts[by_size]))
    group = np.arange(len(counts))
    group[by_size[small]] = -1
    return group[labels].astype(np.int64)
