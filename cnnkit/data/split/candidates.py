"""Near-copy candidates: short descriptions of pictures, and pairs of rows with similar descriptions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.store.facts import LUMA_WEIGHTS, THUMBNAIL_SIZE

Floats = NDArray[np.floating]  # float32 throughout
Rows = NDArray[np.int64]

# Frequencies per axis in the description of a picture. These values give the fewest false near duplicates in CIFAR-10: see
# docs/benchmarks/LOG.md, "Description of near copies".
LUMA_FREQUENCIES, CHROMA_FREQUENCIES, CHROMA_WEIGHT = 6, 4, 2.0
# The amplitudes of photographs are about 1 / frequency. Without weights the coarsest shapes dominate; at power 1 the details
# dominate that change with re-encoding or a shift by a pixel.
FREQUENCY_POWER = 0.75
CHROMA_MATRIX = np.array([[-0.169, 0.5], [-0.331, -0.419], [0.5, -0.081]], np.float32)  # ITU-R BT.601 Cb and Cr

MAX_PARTNERS = 16  # nearest later rows that one row is paired with: enough to connect the frames of a film
MAX_EXHAUSTIVE_ROWS = 100_000  # up to this number of rows, all pairs are compared
# Above it, each row belongs to its three nearest lists, and only rows of one list are compared. They hold 95 % of the pairs above
# their limits: see docs/benchmarks/LOG.md, "Lists of near copies".
LISTS_PER_ROW = 3
ROWS_PER_LIST = 500  # average length of a list if each row were in one list
_BLOCK_ROWS, _BLOCK_COLUMNS = 1024, 4096  # 16 MB of similarities; smaller and larger blocks take up to twice as long


def describe(thumbnails: NDArray[np.uint8]) -> Floats:
    """Return the low frequencies of pictures (N, `THUMBNAIL_SIZE`, `THUMBNAIL_SIZE`, 3) as unit vectors (N, 65).

    They do not depend on brightness and contrast: the cosine of two versions of one picture is close to 1. A picture of one colour gives
    zeros.
    """
    pixels = thumbnails.astype(np.float32)
    blue, red = np.moveaxis(pixels @ CHROMA_MATRIX, 3, 0)
    parts = (
        _frequencies(pixels @ LUMA_WEIGHTS, LUMA_FREQUENCIES),
        CHROMA_WEIGHT * _frequencies(blue, CHROMA_FREQUENCIES),
        CHROMA_WEIGHT * _frequencies(red, CHROMA_FREQUENCIES),
    )
    vectors = np.concatenate(parts, axis=1)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-3)  # noqa: PLR2004 (rounding errors are smaller)


def _frequencies(channel: Floats, count: int) -> Floats:
    """Return the weighted 2-D DCT coefficients (N, count * count - 1) of (N, T, T), without the mean."""
    numbers = np.arange(count)
    waves = np.cos(np.pi / THUMBNAIL_SIZE * np.outer(np.arange(THUMBNAIL_SIZE) + 0.5, numbers))
    waves[:, 0] *= np.sqrt(0.5)  # all waves have the same norm
    weights = np.hypot(numbers[:, None], numbers) ** FREQUENCY_POWER
    coefficients = (waves.T.astype(np.float32) @ channel @ waves.astype(np.float32)) * weights.astype(np.float32)
    return coefficients.reshape(len(channel), -1)[:, 1:]


def near_neighbours(vectors: Floats, limits: Floats) -> Rows:
    """Return sorted pairs (P, 2) of rows i < j of unit vectors (N, D) whose cosine is above the `limits` (N,) of both rows.

    A row is paired with at most `MAX_PARTNERS` later rows, the nearest. Up to `MAX_EXHAUSTIVE_ROWS` rows all pairs are compared;
    above, only rows of one list.
    """
    if len(vectors) <= MAX_EXHAUSTIVE_ROWS:
        return _search(vectors, limits)
    found = [members[_search(vectors[members], limits[members])] for members in _lists(vectors)]
    codes = np.unique(np.concatenate([pairs[:, 0] * len(vectors) + pairs[:, 1] for pairs in found]))
    return np.stack(np.divmod(codes, len(vectors)), axis=1)


def _search(vectors: Floats, limits: Floats) -> Rows:
    """Return the pairs of `near_neighbours` from a comparison of all pairs, in blocks."""
    # One more dimension subtracts the limit of the row from every cosine, faster than a pass over the block.
    rows = np.column_stack([vectors, -limits])
    columns = np.column_stack([vectors, np.ones_like(limits)]).T.copy()
    found: list[Rows] = [np.empty((0, 2), np.int64)]
    for top in range(0, len(vectors), _BLOCK_ROWS):
        pairs: list[Rows] = []
        excesses: list[Floats] = []
        for left in range(top, len(vectors), _BLOCK_COLUMNS):
            block = rows[top : top + _BLOCK_ROWS] @ columns[:, left : left + _BLOCK_COLUMNS]
            if left == top:
                block[np.tri(*block.shape, dtype=bool)] = -1.0  # the row itself, and pairs with i > j
            hits = _above_zero(block)
            excess = block.ravel()[hits]
            first, second = np.divmod(hits, block.shape[1])
            first, second = first + top, second + left
            both = excess + limits[first] > limits[second]
            pairs.append(np.stack([first[both], second[both]], axis=1))
            excesses.append(excess[both])
        found.append(_nearest(np.concatenate(pairs), np.concatenate(excesses)))
    return np.concatenate(found)


def _above_zero(block: Floats) -> Rows:
    """Return the flat indices of the positive values of a block; if they are many, only the `MAX_PARTNERS` largest of each row."""
    hits = np.flatnonzero(block > 0)
    if len(hits) <= MAX_PARTNERS * len(block):
        return hits
    best = np.argpartition(block, max(0, block.shape[1] - MAX_PARTNERS), axis=1)[:, -MAX_PARTNERS:]
    hits = np.sort(best + block.shape[1] * np.arange(len(block))[:, None], axis=1).ravel()
    return hits[block.ravel()[hits] > 0]


def _nearest(pairs: Rows, similarity: Floats) -> Rows:
    """Return the sorted pairs with the `MAX_PARTNERS` most similar partners of each first row."""
    order = np.lexsort((pairs[:, 1], -similarity, pairs[:, 0]))
    first = pairs[order, 0]
    rank = np.arange(len(first)) - np.searchsorted(first, first)
    kept = pairs[order[rank < MAX_PARTNERS]]
    return kept[np.lexsort((kept[:, 1], kept[:, 0]))]


def _lists(vectors: Floats) -> Iterator[Rows]:
    """Yield sorted lists of rows. Each row is in its `LISTS_PER_ROW` nearest lists, so two near rows probably share a list."""
    centres = _centres(vectors, max(1, len(vectors) // ROWS_PER_LIST))
    nearest = np.empty((len(vectors), LISTS_PER_ROW), np.int32)
    for top in range(0, len(vectors), _BLOCK_ROWS):
        similarity = vectors[top : top + _BLOCK_ROWS] @ centres.T
        here = np.arange(len(similarity))
        for turn in range(LISTS_PER_ROW):
            nearest[top + here, turn] = best = similarity.argmax(1)
            similarity[here, best] = -2.0
    order = np.argsort(nearest.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(nearest.ravel(), minlength=len(centres)))
    for members in np.split(order, ends[:-1]):
        yield members // LISTS_PER_ROW


def _centres(vectors: Floats, count: int) -> Floats:
    """Return about `count` cluster centres of the vectors: three rounds of k-means on an even sample of 20 vectors per centre."""
    sample = vectors[:: max(1, len(vectors) // (20 * count))]
    centres = sample[:: len(sample) // count][:count]
    for _ in range(3):
        members = np.concatenate([(sample[top : top + _BLOCK_ROWS] @ centres.T).argmax(1) for top in range(0, len(sample), _BLOCK_ROWS)])
        sums = np.zeros_like(centres)
        np.add.at(sums, members, sample)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.divide(sums, lengths, out=centres.copy(), where=lengths > 0)
    return centres
