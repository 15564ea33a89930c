"""The search for pictures that are close to each other among many: a short description of each, and the pairs that are near."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.store.facts import LUMA_WEIGHTS, THUMBNAIL_SIZE

Floats = NDArray[np.floating]  # float32 throughout
Rows = NDArray[np.int64]

# Frequencies a side that describe a picture, those by which the fewest others pass for a near duplicate of CIFAR-10: see
# docs/benchmarks/LOG.md, "Description of near copies".
LUMA_FREQUENCIES, CHROMA_FREQUENCIES, CHROMA_WEIGHT = 6, 4, 2.0
# Photographs hold about 1 / frequency of each: unweighted, the coarsest shapes decide alone; at power 1, what re-encoding and a
# shift by a pixel change.
FREQUENCY_POWER = 0.75
CHROMA_MATRIX = np.array([[-0.169, 0.5], [-0.331, -0.419], [0.5, -0.081]], np.float32)  # ITU-R BT.601 Cb and Cr

MAX_PARTNERS = 16  # later rows that one row is paired with at most, the nearest: the frames of a film stay connected
MAX_EXHAUSTIVE_ROWS = 100_000  # rows up to which all pairs are looked at
# Beyond, a row stands in its three nearest lists, and only rows of one list meet: 95 % of the pairs above their limits do, see
# docs/benchmarks/LOG.md, "Lists of near copies".
LISTS_PER_ROW = 3
ROWS_PER_LIST = 500  # rows that make one list on average, were each in one only
_BLOCK_ROWS, _BLOCK_COLUMNS = 1024, 4096  # a block of 16 MB of similarities: smaller and larger ones take up to twice as long


def describe(thumbnails: NDArray[np.uint8]) -> Floats:
    """Return unit vectors (N, 65), the low frequencies of pictures (N, `THUMBNAIL_SIZE`, `THUMBNAIL_SIZE`, 3) without light and contrast.

    The cosine of two is close to 1 for two versions of one picture, however bright. A picture of one colour has none: zeros.
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
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-3)  # noqa: PLR2004 (rounding errors are less)


def _frequencies(channel: Floats, count: int) -> Floats:
    """Return the weighted 2-D DCT coefficients (N, count * count - 1) of (N, side, side), without the mean."""
    numbers = np.arange(count)
    waves = np.cos(np.pi / THUMBNAIL_SIZE * np.outer(np.arange(THUMBNAIL_SIZE) + 0.5, numbers))
    waves[:, 0] *= np.sqrt(0.5)  # all waves of one length
    weights = np.hypot(numbers[:, None], numbers) ** FREQUENCY_POWER
    coefficients = (waves.T.astype(np.float32) @ channel @ waves.astype(np.float32)) * weights.astype(np.float32)
    return coefficients.reshape(len(channel), -1)[:, 1:]


def near_neighbours(vectors: Floats, limits: Floats) -> Rows:
    """Return the rows i < j (P, 2), sorted, of unit vectors (N, D) whose cosine is above the limits (N,) of both.

    A row is paired with `MAX_PARTNERS` later rows at most, its nearest. Up to `MAX_EXHAUSTIVE_ROWS` rows every pair is looked at; beyond,
    those that meet in a list.
    """
    if len(vectors) <= MAX_EXHAUSTIVE_ROWS:
        return _search(vectors, limits)
    found = [members[_search(vectors[members], limits[members])] for members in _lists(vectors)]
    codes = np.unique(np.concatenate([pairs[:, 0] * len(vectors) + pairs[:, 1] for pairs in found]))
    return np.stack(np.divmod(codes, len(vectors)), axis=1)


def _search(vectors: Floats, limits: Floats) -> Rows:
    """Look at every pair, in blocks."""
    # One more dimension takes the limit of the row off every cosine, for less than a pass over the block costs.
    rows = np.column_stack([vectors, -limits])
    columns = np.column_stack([vectors, np.ones_like(limits)]).T.copy()
    found: list[Rows] = [np.empty((0, 2), np.int64)]
    for top in range(0, len(vectors), _BLOCK_ROWS):
        pairs: list[Rows] = []
        excesses: list[Floats] = []
        for left in range(top, len(vectors), _BLOCK_COLUMNS):
            block = rows[top : top + _BLOCK_ROWS] @ columns[:, left : left + _BLOCK_COLUMNS]
            if left == top:
                block[np.tri(*block.shape, dtype=bool)] = -1.0  # itself, and pairs seen from the other side
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
    """Return the flat places of a block that are above 0, or if these are very many, the `MAX_PARTNERS` largest of each row."""
    hits = np.flatnonzero(block > 0)
    if len(hits) <= MAX_PARTNERS * len(block):
        return hits
    best = np.argpartition(block, max(0, block.shape[1] - MAX_PARTNERS), axis=1)[:, -MAX_PARTNERS:]
    hits = np.sort(best + block.shape[1] * np.arange(len(block))[:, None], axis=1).ravel()
    return hits[block.ravel()[hits] > 0]


def _nearest(pairs: Rows, similarity: Floats) -> Rows:
    """Keep the `MAX_PARTNERS` most similar partners of each first row, sorted."""
    order = np.lexsort((pairs[:, 1], -similarity, pairs[:, 0]))
    first = pairs[order, 0]
    rank = np.arange(len(first)) - np.searchsorted(first, first)
    kept = pairs[order[rank < MAX_PARTNERS]]
    return kept[np.lexsort((kept[:, 1], kept[:, 0]))]


def _lists(vectors: Floats) -> Iterator[Rows]:
    """Yield lists of rows, sorted; two near rows are likely to share one, since each stands in its `LISTS_PER_ROW` nearest."""
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
    """Find `count` directions that the vectors lie around: three rounds of k-means on an even sample, 20 for a centre."""
    sample = vectors[:: max(1, len(vectors) // (20 * count))]
    centres = sample[:: len(sample) // count][:count]
    for _ in range(3):
        members = np.concatenate([(sample[top : top + _BLOCK_ROWS] @ centres.T).argmax(1) for top in range(0, len(sample), _BLOCK_ROWS)])
        sums = np.zeros_like(centres)
        np.add.at(sums, members, sample)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.divide(sums, lengths, out=centres.copy(), where=lengths > 0)
    return centres
