"""Copies among images: the same content, or the same picture re-encoded, rescaled, brightened, tinted or cropped a little.

What is a copy depends on the company. Two photographs whose edges agree by 0.9 are one picture; two handwritten digits agree
as well and were written by two people. So a pair has to be much closer to each other than each is to the pictures around.
That also keeps copies from chaining: where a chain could run from one look-alike to the next, the demand is highest.

Most of the near duplicates between CIFAR-10's test and train that Barz & Denzler list ("Do we train on test data? Purging CIFAR of
near-duplicates", J. Imaging 2020) are found: see docs/benchmarks/RESULTS.md, "Near copies".

Not found are mirrored and turned copies, and crops of much more than a tenth a side.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.split.candidates import MAX_EXHAUSTIVE_ROWS, Floats, Rows, describe, near_neighbours
from cnnkit.data.split.verify import agreement
from cnnkit.data.store.facts import Facts

METHOD_VERSION = 1  # goes up when `near_pairs` answers otherwise, so that remembered answers are not used

# A copy is nearer than COPY_RATIO times the way to the crowd. Of the list 77, 85, 90 and 93 % pass at 0.3, 0.35, 0.4 and 0.45. Of
# CIFAR-10's pairs from 0.2 to 0.3 the eye finds 1 in 50 false, up to 0.35 1 in 11, up to 0.4 1 in 7 (56 looked at in each).
COPY_RATIO = 0.4
# Descriptions nearer than ALIGN_RATIO times the way to the crowd are worth aligning: 94 % of the list and 15,468 pairs; at 0.5, 90 %
# and 6,719. The pairs to align grow with the square of the images, so there are fewer chances where there are very many.
ALIGN_RATIO, ALIGN_RATIO_OF_MANY = 0.6, 0.4
# The crowd is the fifth nearest picture of a sample: four copies of a picture make no crowd. The larger the sample the better it
# tells look-alikes: to hold 90 % of the list costs 500, 98, 35 false pairs in MNIST with 1,000, 2,000, 4,000 (24 with 8,000, but
# then CIFAR-10's car, 131 times among the 60,000, is a crowd of its own).
SAMPLE_SIZE, CROWD_RANK = 4000, 5
# Where all images are in the sample, a second look counts the copies found as one picture. Then the second nearest is the crowd,
# so that one that was not found is none: of five copies each of 20 photographs among 398, 295 of 300 pairs instead of 250; of
# look-alikes in samples of 50, 200 and 800 digits (six of each) none, with the third nearest 3, with the fifth 8.
CROWD_RANK_OF_CLUSTERS = 2
# Only the largest of each of 100 parts of the sample is ranked: 1 s for 60,000 images. For 1 % the crowd is farther by 0.02 or more.
NUM_PARTS = 100
# Nearer than this is a copy for certain and no part of the crowd, which in a small set of images would else be made of copies.
CERTAIN_COSINE = 0.995
# The crowd is never farther than this, about the median of CIFAR-10 (0.56): in a small set of images there may be none.
MIN_CROWD_COSINE = 0.5
# Levels, the root mean square between neighbouring pixels, below which a picture shows nothing; rounding to whole levels alone
# makes 0.4. Of CIFAR-10 0.1 % are below 8.3, of 398 photographs of insects 0.1 % below 8.1.
MIN_EDGE_LEVELS = 2.0
BATCH_ROWS = 1024  # rows at a time: 16 MB of similarities to the sample's 4,000


def exact_groups(facts: Sequence[Facts]) -> list[list[int]]:
    """Return the rows of each content that occurs more than once, by first row; unreadable images are in none."""
    return [rows for rows in _contents(facts).values() if len(rows) > 1]


def near_pairs(thumbnails: NDArray[np.uint8], facts: Sequence[Facts]) -> Rows:
    """Return the rows i < j (P, 2), sorted, of images that show the same picture and are not the same content.

    `thumbnails` are uint8 (N, `THUMBNAIL_SIZE`, `THUMBNAIL_SIZE`, 3). Of images with the same content only the first takes part; those
    that cannot be read or show nothing (`MIN_EDGE_LEVELS`) do not. The same input gives the same pairs.
    """
    rows = np.array([same[0] for same in _contents(facts).values()], np.int64)
    if len(rows) < 2:  # noqa: PLR2004 (a pair)
        return np.empty((0, 2), np.int64)
    vectors = np.concatenate([_describe(thumbnails[rows[top : top + BATCH_ROWS]]) for top in range(0, len(rows), BATCH_ROWS)])
    pairs = _copies(thumbnails, rows, vectors, _crowd(vectors))
    if len(rows) <= SAMPLE_SIZE:
        pairs = _copies(thumbnails, rows, vectors, _crowd(vectors, clusters(len(rows), pairs)))
    return rows[pairs]


def link_equal(names: Iterable[Hashable | None]) -> Rows:
    """Return pairs (P, 2) that link every row to the first row of the same name; None is no name."""
    first: dict[Hashable, int] = {}
    return np.array([(first.setdefault(name, row), row) for row, name in enumerate(names) if name is not None], np.int64).reshape(-1, 2)


def clusters(count: int, pairs: Rows) -> Rows:
    """Return (count,): for each row the first row that `pairs` (P, 2) connect it with, itself if they do not."""
    first, (left, right) = np.arange(count), pairs.T
    while (first[left] != first[right]).any():
        lowest = np.minimum(first[left], first[right])
        for side in (left, right):  # the first rows of both take the lower one, and then all that follow them
            np.minimum.at(first, first[side], lowest)
        while (first != first[first]).any():
            first = first[first]
    return first


def _contents(facts: Sequence[Facts]) -> dict[str, list[int]]:
    """The rows of every readable content, by its hash."""
    rows: dict[str, list[int]] = {}
    for row, item in enumerate(facts):
        if not item.error:
            rows.setdefault(item.sha256, []).append(row)
    return rows


def _describe(thumbnails: NDArray[np.uint8]) -> Floats:
    """Call `describe`, but give zeros, near to nothing, for pictures that show nothing."""
    levels = thumbnails.astype(np.float32)
    energy = np.mean([np.square(np.diff(levels, axis=axis)).mean((1, 2, 3)) for axis in (1, 2)], axis=0)
    vectors = describe(thumbnails)
    vectors[np.sqrt(energy) < MIN_EDGE_LEVELS] = 0
    return vectors


def _copies(thumbnails: NDArray[np.uint8], rows: Rows, vectors: Floats, crowd: Floats) -> Rows:
    """Return the pairs of places in `rows` that are copies, given how near the crowd is to each."""
    room = 1 - np.maximum(crowd, MIN_CROWD_COSINE)
    close = ALIGN_RATIO if len(rows) <= MAX_EXHAUSTIVE_ROWS else ALIGN_RATIO_OF_MANY
    pairs = near_neighbours(vectors, 1 - close * room)
    return pairs[1 - agreement(thumbnails, rows[pairs]) < COPY_RATIO * room[pairs].min(axis=1)]


def _crowd(vectors: Floats, families: Rows | None = None) -> Floats:
    """Return (N,) how near the crowd is to each picture: the cosine to the fifth or second nearest of the sample.

    Of a family, rows of one number in `families` (N,), only the first is in the sample, and no picture is in its own crowd.
    """
    rows, nearest = (np.arange(len(vectors)), CROWD_RANK) if families is None else (np.unique(families), CROWD_RANK_OF_CLUSTERS)
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(SAMPLE_SIZE, len(rows))).astype(np.int64))]
    columns = np.zeros((vectors.shape[1], -(-len(chosen) // NUM_PARTS) * NUM_PARTS), np.float32)
    columns[:, : len(chosen)] = vectors[chosen].T
    crowd = np.empty(len(vectors), np.float32)
    for top in range(0, len(vectors), BATCH_ROWS):
        similarity = vectors[top : top + BATCH_ROWS] @ columns
        if families is not None:
            similarity[:, : len(chosen)][families[top : top + BATCH_ROWS, None] == chosen] = -1.0
        largest = similarity.reshape(len(similarity), -1, NUM_PARTS).max(axis=1)
        largest[largest > CERTAIN_COSINE] = -1.0  # itself as well
        crowd[top : top + BATCH_ROWS] = np.partition(largest, -nearest, axis=1)[:, -nearest]
    return crowd
