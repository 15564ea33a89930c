"""Copies among images: the same content, or the same picture re-encoded, rescaled, brightened, tinted or cropped a little.

The limit for a copy depends on the other images. Two photographs whose edges agree by 0.9 are one picture. Two handwritten digits of
different people agree as well. So the two images of a pair must be much nearer to each other than to their crowd, the other images
around them. This also prevents chains from one look-alike to the next, since the limit is strictest among look-alikes.

Barz & Denzler ("Do we train on test data? Purging CIFAR of near-duplicates", J. Imaging 2020) list near duplicates between CIFAR-10's
test and train. The search finds most of them: see docs/benchmarks/RESULTS.md, "Near copies". It does not find mirrored and rotated
copies, nor crops of much more than a tenth at an edge.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.split.candidates import MAX_EXHAUSTIVE_ROWS, Floats, Rows, describe, near_neighbours
from cnnkit.data.split.verify import agreement
from cnnkit.data.store.facts import Facts

METHOD_VERSION = 1  # raise it when the results of `near_pairs` change, so that cached results are not used

# A copy is nearer than COPY_RATIO times the distance to the crowd. Ratios of 0.3, 0.35, 0.4 and 0.45 find 77, 85, 90 and 93 % of the
# list. By eye, 1 in 50 of CIFAR-10's pairs from 0.2 to 0.3 is false. Up to 0.35 it is 1 in 11, up to 0.4 1 in 7 (56 pairs each).
COPY_RATIO = 0.4
# Pairs whose descriptions are nearer than ALIGN_RATIO times the distance to the crowd are aligned: 15,468 pairs with 94 % of the list;
# at 0.5, 6,719 pairs with 90 %. The number of pairs grows with the square of the images, so the ratio for many images is smaller.
ALIGN_RATIO, ALIGN_RATIO_OF_MANY = 0.6, 0.4
# The crowd is the fifth nearest picture of a sample, so that four copies of a picture make no crowd. A larger sample separates look-alikes
# better: at 90 % of the list, samples of 1,000, 2,000 and 4,000 give 500, 98 and 35 false pairs in MNIST. A sample of 8,000 gives 24,
# but then CIFAR-10's car, 131 times among the 60,000, is a crowd itself.
SAMPLE_SIZE, CROWD_RANK = 4000, 5
# If all images are in the sample, a second pass counts the copies of the first pass as one picture. The crowd is then the second nearest,
# so that one missed copy makes no crowd. For five copies each of 20 photographs among 398 it finds 295 of 300 pairs instead of 250. In
# samples of 50, 200 and 800 digits (six of each) it finds no false pair; the third nearest finds 3, the fifth 8.
CROWD_RANK_OF_CLUSTERS = 2
# Only the largest of each of 100 parts of the sample is ranked: 1 s for 60,000 images. For 1 % the crowd is farther by at least 0.02.
NUM_PARTS = 100
# A nearer picture is certainly a copy and not part of the crowd; in a small set of images the crowd would else consist of copies.
CERTAIN_COSINE = 0.995
# Lower limit of the crowd's cosine, about the median of CIFAR-10 (0.56), since a small set of images may have no crowd.
MIN_CROWD_COSINE = 0.5
# Lower limit of the root mean square difference, in levels, between neighbouring pixels of a picture that shows anything. Rounding to
# whole levels alone gives 0.4. In CIFAR-10 0.1 % are below 8.3, in 398 photographs of insects 0.1 % below 8.1.
MIN_EDGE_LEVELS = 2.0
BATCH_ROWS = 1024  # rows at a time: 16 MB of similarities to a sample of 4,000


def exact_groups(facts: Sequence[Facts]) -> list[list[int]]:
    """Return the rows of each content that occurs more than once, sorted by first row, without unreadable images."""
    return [rows for rows in _contents(facts).values() if len(rows) > 1]


def near_pairs(thumbnails: NDArray[np.uint8], facts: Sequence[Facts]) -> Rows:
    """Return sorted pairs (P, 2) of rows i < j of images that show the same picture with different contents.

    `thumbnails` are uint8 (N, `THUMBNAIL_SIZE`, `THUMBNAIL_SIZE`, 3). The search takes only the first image of each content, and leaves
    out images that are unreadable or show nothing (`MIN_EDGE_LEVELS`). It is deterministic.
    """
    rows = np.array([same[0] for same in _contents(facts).values()], np.int64)
    if len(rows) < 2:  # noqa: PLR2004 (a pair)
        return np.empty((0, 2), np.int64)
    vectors = np.concatenate([_describe(thumbnails[rows[top : top + BATCH_ROWS]]) for top in range(0, len(rows), BATCH_ROWS)])
    pairs = _copies(thumbnails, rows, vectors, _crowd(vectors))
    if len(rows) <= SAMPLE_SIZE:
        pairs = _copies(thumbnails, rows, vectors, _crowd(vectors, clusters(len(rows), pairs)))
    return rows[pairs]


def near_pairs_between(
    thumbnails: NDArray[np.uint8], contents: Sequence[str], known: NDArray[np.uint8], known_contents: Sequence[str]
) -> tuple[Rows, Rows]:
    """Return the near copies across two sets and within the second: pairs (P, 2) of rows of both, and pairs (Q, 2) of rows of the second.

    `thumbnails` and `known` are uint8 (N, `THUMBNAIL_SIZE`, `THUMBNAIL_SIZE`, 3), `contents` and `known_contents` the SHA-256 of their
    images, which all differ.
    """
    facts = [Facts(sha256=content) for content in (*contents, *known_contents)]
    pairs = near_pairs(np.concatenate([thumbnails, known]), facts)
    first_known, second_known = (pairs >= len(contents)).T
    return pairs[~first_known & second_known] - (0, len(contents)), pairs[first_known] - len(contents)


def link_equal(names: Iterable[Hashable | None]) -> Rows:
    """Return pairs (P, 2) that link every row to the first row of the same name; rows with the name None are not linked."""
    first: dict[Hashable, int] = {}
    return np.array([(first.setdefault(name, row), row) for row, name in enumerate(names) if name is not None], np.int64).reshape(-1, 2)


def clusters(count: int, pairs: Rows) -> Rows:
    """Return the cluster (count,) of each row: the first row that is connected with it by `pairs` (P, 2)."""
    first, (left, right) = np.arange(count), pairs.T
    while (first[left] != first[right]).any():
        lowest = np.minimum(first[left], first[right])
        for rows in (left, right):  # the first rows of both take the lower row, and then their followers do
            np.minimum.at(first, first[rows], lowest)
        while (first != first[first]).any():
            first = first[first]
    return first


def _contents(facts: Sequence[Facts]) -> dict[str, list[int]]:
    """Return the rows of every readable content by its hash."""
    rows: dict[str, list[int]] = {}
    for row, item in enumerate(facts):
        if not item.error:
            rows.setdefault(item.sha256, []).append(row)
    return rows


def _describe(thumbnails: NDArray[np.uint8]) -> Floats:
    """Return the descriptions of `describe`, with zeros, which are near to no picture, for pictures that show nothing."""
    levels = thumbnails.astype(np.float32)
    energy = np.mean([np.square(np.diff(levels, axis=axis)).mean((1, 2, 3)) for axis in (1, 2)], axis=0)
    vectors = describe(thumbnails)
    vectors[np.sqrt(energy) < MIN_EDGE_LEVELS] = 0
    return vectors


def _copies(thumbnails: NDArray[np.uint8], rows: Rows, vectors: Floats, crowd: Floats) -> Rows:
    """Return pairs of indices of `rows` that are copies; `crowd` is the cosine of each row to its crowd."""
    room = 1 - np.maximum(crowd, MIN_CROWD_COSINE)
    close = ALIGN_RATIO if len(rows) <= MAX_EXHAUSTIVE_ROWS else ALIGN_RATIO_OF_MANY
    pairs = near_neighbours(vectors, 1 - close * room)
    return pairs[1 - agreement(thumbnails, rows[pairs]) < COPY_RATIO * room[pairs].min(axis=1)]


def _crowd(vectors: Floats, cluster_ids: Rows | None = None) -> Floats:
    """Return the cosine (N,) of each picture to its crowd: to the fifth nearest picture of the sample, or the second with clusters.

    With `cluster_ids` (N,), only the first picture of a cluster is in the sample, and no picture is in the crowd of its own cluster.
    """
    rows, nearest = (np.arange(len(vectors)), CROWD_RANK) if cluster_ids is None else (np.unique(cluster_ids), CROWD_RANK_OF_CLUSTERS)
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(SAMPLE_SIZE, len(rows))).astype(np.int64))]
    columns = np.zeros((vectors.shape[1], -(-len(chosen) // NUM_PARTS) * NUM_PARTS), np.float32)
    columns[:, : len(chosen)] = vectors[chosen].T
    crowd = np.empty(len(vectors), np.float32)
    for top in range(0, len(vectors), BATCH_ROWS):
        similarity = vectors[top : top + BATCH_ROWS] @ columns
        if cluster_ids is not None:
            similarity[:, : len(chosen)][cluster_ids[top : top + BATCH_ROWS, None] == chosen] = -1.0
        largest = similarity.reshape(len(similarity), -1, NUM_PARTS).max(axis=1)
        largest[largest > CERTAIN_COSINE] = -1.0  # includes the picture itself
        crowd[top : top + BATCH_ROWS] = np.partition(largest, -nearest, axis=1)[:, -nearest]
    return crowd
