"""The crowd of a picture: the other pictures around it, on which the limit for its copies depends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.split.candidates import Floats, Rows

# The crowd is the fifth nearest picture of a sample, so that four copies of a picture make no crowd. A larger sample separates look-alikes
# better: at 90 % of the list, samples of 1,000, 2,000 and 4,000 give 500, 98 and 35 false pairs in MNIST. A sample of 8,000 gives 24,
# but then CIFAR-10's car, 131 times among the 60,000, is a crowd itself.
SAMPLE_SIZE, CROWD_RANK = 4000, 5
# If all images are in the sample, later rounds count the copies of the round before as one picture. The crowd is then the second nearest,
# so that one missed copy makes no crowd. For five copies each of 20 photographs among 398 it finds 295 of 300 pairs instead of 250. In
# samples of 50, 200 and 800 digits (six of each) it finds no false pair; the third nearest finds 3, the fifth 8.
CROWD_RANK_OF_CLUSTERS = 2
# Only the largest of each of 100 parts of the sample is ranked: 1 s for 60,000 images. For 1 % the crowd is farther by at least 0.02.
NUM_PARTS = 100
# A nearer picture is certainly a copy and not part of the crowd; in a small set of images the crowd would else consist of copies.
CERTAIN_COSINE = 0.995
BATCH_ROWS = 1024  # rows at a time: 16 MB of similarities to a sample of 4,000


def crowd_rank(count: int, cluster_ids: Rows | None) -> int:
    """Return the rank of the crowd among the nearest pictures of the sample of `count` pictures."""
    return CROWD_RANK if cluster_ids is None or count > SAMPLE_SIZE else CROWD_RANK_OF_CLUSTERS


def crowd_cosines(vectors: Floats, cluster_ids: Rows | None = None, rows: Rows | None = None) -> Floats:
    """Return the cosine (R,) to its crowd of each of `rows` (R,) of unit vectors, by default of all.

    With `cluster_ids` (N,), only the first picture of a cluster is in the sample, and no picture is in the crowd of its own cluster.
    """
    chosen, rank = _sample(len(vectors), cluster_ids), crowd_rank(len(vectors), cluster_ids)
    columns = np.zeros((vectors.shape[1], -(-len(chosen) // NUM_PARTS) * NUM_PARTS), np.float32)
    columns[:, : len(chosen)] = vectors[chosen].T
    rows = np.arange(len(vectors)) if rows is None else rows
    crowd = np.empty(len(rows), np.float32)
    for top in range(0, len(rows), BATCH_ROWS):
        part = rows[top : top + BATCH_ROWS]
        similarity = vectors[part] @ columns
        if cluster_ids is not None:
            similarity[:, : len(chosen)][cluster_ids[part, None] == chosen] = -1.0
        largest = similarity.reshape(len(similarity), -1, NUM_PARTS).max(axis=1)
        largest[largest > CERTAIN_COSINE] = -1.0  # includes the picture itself
        crowd[top : top + BATCH_ROWS] = np.partition(largest, -rank, axis=1)[:, -rank]
    return crowd


def crowd_members(vectors: Floats, rows: Rows, number: int, cluster_ids: Rows | None = None) -> tuple[Rows, Floats]:
    """Return the `number` pictures of the sample that are nearest to each of `rows` (R,), and their cosines, both (R, number).

    A picture of the own cluster has the cosine -1, and so has the picture itself.
    """
    chosen = _sample(len(vectors), cluster_ids)
    number = min(number, len(chosen))
    members, cosines = np.empty((len(rows), number), np.int64), np.empty((len(rows), number), np.float32)
    for top in range(0, len(rows), BATCH_ROWS):
        part = rows[top : top + BATCH_ROWS]
        similarity = vectors[part] @ vectors[chosen].T
        own = part if cluster_ids is None else cluster_ids[part]
        similarity[own[:, None] == chosen] = -1.0
        best = np.argpartition(similarity, -number, axis=1)[:, -number:]
        members[top : top + BATCH_ROWS], cosines[top : top + BATCH_ROWS] = chosen[best], np.take_along_axis(similarity, best, axis=1)
    return members, cosines


def _sample(count: int, cluster_ids: Rows | None) -> NDArray[np.int64]:
    """Return an even sample of `count` rows, or of the first rows of their clusters."""
    rows = np.arange(count) if cluster_ids is None else np.unique(cluster_ids)
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(SAMPLE_SIZE, len(rows))).astype(np.int64))]
