"""Copies among images: the same content, or the same picture re-encoded, rescaled, brightened, tinted, cropped a little or turned.

Thumbnails propose pairs, and the fine structure of the aligned looks decides. A mirror image and the other symmetries of the square
count as the same picture.

The limit for a copy depends on the other images. Two photographs whose details agree by 0.9 are one picture. Two wafers of one kind
agree as well. So the two images of a pair must be much nearer to each other than to their crowd, the other images around them. This also
prevents chains from one look-alike to the next, since the limit is strictest among look-alikes. Pairs that only the crowd refuses are
alike: they may be copies or neighbours, and no comparison of pictures can tell.

Barz & Denzler ("Do we train on test data? Purging CIFAR of near-duplicates", J. Imaging 2020) list near duplicates between CIFAR-10's
test and train. The search does not find crops of much more than a tenth at an edge: see docs/benchmarks/RESULTS.md, "Near copies".
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.split.candidates import (
    NUM_COEFFICIENTS,
    Candidates,
    Floats,
    Rows,
    Versions,
    canonical,
    describe,
    near_neighbours,
    originals,
)
from cnnkit.data.split.comparison import Pictures, compare, decide, sample_crowded
from cnnkit.data.split.crowd import SAMPLE_SIZE, crowd_cosines
from cnnkit.data.store.facts import Facts, Measured
from cnnkit.data.store.index import FactColumns
from cnnkit.data.store.store import Mapped

METHOD_VERSION = 3  # raise it when the results of `find_copies` change, so that cached results are not used

# Pairs whose descriptions are nearer than ALIGN_RATIO times the distance to the crowd are aligned: 15,468 pairs with 94 % of the list;
# at 0.5, 6,719 pairs with 90 %. The number of pairs grows with the square of the images, so the ratio for many images is smaller.
ALIGN_RATIO, ALIGN_RATIO_OF_MANY, MANY_IMAGES = 0.6, 0.4, 100_000
# Lower limit of the crowd's cosine, about the median of CIFAR-10 (0.56), since a small set of images may have no crowd.
MIN_CROWD_COSINE = 0.5
# Lower limit of the root mean square difference, in levels, between neighbouring pixels of a picture that shows anything. Rounding to
# whole levels alone gives 0.4. In CIFAR-10 0.1 % are below 8.3, in 398 photographs of insects 0.1 % below 8.1.
MIN_EDGE_LEVELS = 2.0
MIN_LIMIT_CHANGE = 0.01  # of the cosine; a smaller change proposes hardly a pair more
MAX_ROUNDS = 6  # of linking; four data sets of photographs need at most 4
MIN_CROWDED_SHARE = 0.01  # crowded pairs per image; fewer change no metric by more than that
BATCH_ROWS = 1024  # rows at a time


def exact_groups(facts: Sequence[Facts]) -> list[list[int]]:
    """Return the rows of each content that occurs more than once, sorted by first row, without unreadable images."""
    columns = FactColumns.of(facts)
    first = columns.hashes.first_rows()
    readable = np.flatnonzero(columns.readable)
    order = readable[np.argsort(first[readable], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(first[order])) + 1)
    return [rows.tolist() for rows in groups if len(rows) > 1]


@dataclass(frozen=True)
class Copies:
    """Pairs of images with different contents: copies, and pictures that are alike but for details.

    `pairs` (P, 2) are sorted rows i < j of copies. `same` (P,) tells which of them show the same picture in the same orientation and light,
    only re-encoded or resized. `alike` (Q, 2) are pairs of neighbours that nearly agree: sister wafers, exposures, frames of a burst. Of
    these `crowded` (Q,) tells the pairs that could be copies, but are not much nearer to each other than to other images.
    `crowded_total` is an estimate of the number of crowded pairs in the data. `alike` holds a part of them.
    """

    pairs: Rows
    same: NDArray[np.bool_]
    alike: Rows
    crowded: NDArray[np.bool_]
    crowded_total: float

    def among(self, rows: Rows, count: int) -> Copies:
        """Return the pairs among `rows` of `count` images, as positions in `rows`; the estimate shrinks with the crowded pairs."""
        position = np.full(count, -1, np.int64)
        position[rows] = np.arange(len(rows))
        pairs, alike = position[self.pairs], position[self.alike]
        kept, kept_alike = (pairs >= 0).all(axis=1), (alike >= 0).all(axis=1)
        crowded = self.crowded[kept_alike]
        share = crowded.sum() / max(1, self.crowded.sum())
        return Copies(pairs[kept], self.same[kept], alike[kept_alike], crowded, self.crowded_total * float(share))

    def torn(self, splits: Sequence[str | None]) -> float:
        """Return an estimate of the number of crowded pairs whose two images are in different splits (N,), not counting empty names.

        It is a ratio estimator: the estimated number of crowded pairs, times the share of torn pairs among those found. It assumes
        that a found pair is as likely to be torn as another crowded pair.
        """
        found = self.alike[self.crowded]
        if not len(found):
            return 0.0
        torn = sum(bool(splits[one] and splits[other] and splits[one] != splits[other]) for one, other in found.tolist())
        return self.crowded_total * torn / len(found)

    def crowd_note(self, splits: Sequence[str | None]) -> list[str]:
        """Return a note on crowded pairs that the splits (N,) may tear, or nothing if they are few."""
        torn = round(self.torn(splits))
        if not torn or self.crowded_total < MIN_CROWDED_SHARE * len(splits):
            return []
        note = (
            f"about {round(self.crowded_total):,} pairs of images are as alike as copies, but also as alike as their neighbours: cnnkit "
            f"cannot tell which are copies; about {torn:,} of these pairs are in different splits, so the metrics may be too good; "
            f"if such images come from few scenes or parts, name these with --group-by"
        )
        return [note]


NO_COPIES = Copies(np.empty((0, 2), np.int64), np.empty(0, np.bool_), np.empty((0, 2), np.int64), np.empty(0, np.bool_), 0.0)


def find_copies(thumbnails: Mapped, looks: Mapped, facts: Sequence[Facts]) -> Copies:
    """Return the copies and look-alikes among N images.

    `thumbnails` are uint8 (N, T, T, 3), `looks` uint8 (N, L, L), as `measure` makes them. The search takes only the first image of each
    content, and leaves out images that are unreadable or show nothing (`MIN_EDGE_LEVELS`). Linking is repeated, each time with the
    clusters of the previous round as one picture each, until nothing changes. It is deterministic.
    """
    columns = FactColumns.of(facts)
    rows = np.flatnonzero(columns.readable & (columns.hashes.first_rows() == np.arange(len(columns))))
    rows, pose = _poses(thumbnails, rows)
    if len(rows) < 2:  # noqa: PLR2004 (a pair)
        return NO_COPIES
    sides = np.minimum(columns.column("width"), columns.column("height"))[rows].astype(np.int64)
    pictures = Pictures(thumbnails, looks, rows, sides, pose)
    crowd = _crowd(pictures, None)
    compared = compare(pictures, near_neighbours(pose, _limits(crowd)))
    decision = decide(pictures, compared, 1 - np.maximum(crowd, MIN_CROWD_COSINE), None)
    ids = np.arange(len(rows))
    for turn in range(MAX_ROUNDS):
        found = clusters(len(rows), compared.pairs[decision.linked])
        if (found == ids).all():
            break
        ids = found
        if len(rows) <= SAMPLE_SIZE or (turn == 0 and len(rows) <= MANY_IMAGES):
            known, crowd = crowd, _crowd(pictures, ids)
            compared = compared.joined(compare(pictures, _more_candidates(pose, _limits(crowd), _limits(known), ids)))
        else:  # later rounds hardly change the crowd of a sample, so the proposals stay
            asked = np.unique(compared.pairs)
            crowd[asked] = crowd_cosines(pose.vectors, ids, asked)
        decision = decide(pictures, compared, 1 - np.maximum(crowd, MIN_CROWD_COSINE), ids)
    pairs = compared.pairs
    sampled, total = sample_crowded(pictures, ids)
    crowded = np.unique(np.concatenate([pairs[decision.crowded], sampled]), axis=0)
    alike = np.concatenate([crowded, pairs[decision.alike & ~decision.crowded]])
    marked = np.arange(len(alike)) < len(crowded)
    return Copies(rows[pairs[decision.linked]], decision.same[decision.linked], rows[alike], marked, max(total, float(len(crowded))))


def _more_candidates(pose: Versions, limits: Floats, known: Floats, cluster_ids: Rows) -> Candidates:
    """Return the candidates of the rows whose `limits` (N,) fell below the `known` limits, since copies were part of their crowd.

    Their partners are rows of this kind, and rows of clusters.
    """
    changed = limits < known - MIN_LIMIT_CHANGE
    rows = np.flatnonzero(changed | (np.bincount(cluster_ids)[cluster_ids] > 1))
    pairs, symmetries = near_neighbours(pose.part(rows), limits[rows])
    kept = changed[rows[pairs]].any(axis=1)
    return Candidates(rows[pairs[kept]], symmetries[kept])


def _crowd(pictures: Pictures, cluster_ids: Rows | None) -> Floats:
    """Return the cosine (N,) of each picture to its crowd, as it is or in canonical form; of many pictures in canonical form alone."""
    crowd = crowd_cosines(pictures.pose.vectors, cluster_ids)
    return np.maximum(crowd, crowd_cosines(originals(pictures.pose), cluster_ids)) if len(crowd) <= SAMPLE_SIZE else crowd


def _limits(crowd: Floats) -> Floats:
    """Return the cosine (N,) above which a partner is compared with each picture, by the cosine of its crowd."""
    ratio = ALIGN_RATIO if len(crowd) <= MANY_IMAGES else ALIGN_RATIO_OF_MANY
    return 1 - ratio * (1 - np.maximum(crowd, MIN_CROWD_COSINE))


def near_pairs_between(given: Measured, known: Measured) -> tuple[Rows, Rows]:
    """Return the near copies across two sets and within the second: pairs (P, 2) of rows of both, and pairs (Q, 2) of rows of the second.

    The contents of all images differ.
    """
    facts = [*given.facts, *known.facts]
    thumbnails, looks = np.concatenate([given.thumbnails, known.thumbnails]), np.concatenate([given.looks, known.looks])
    pairs = find_copies(thumbnails, looks, facts).pairs
    first_known, second_known = (pairs >= len(given.facts)).T
    return pairs[~first_known & second_known] - (0, len(given.facts)), pairs[first_known] - len(given.facts)


def link_equal(names: Iterable[Hashable | None]) -> Rows:
    """Return pairs (P, 2) that link every row to the first row of the same name; rows with the name None are not linked."""
    linked = array("q")

    def hashes() -> Iterator[int]:
        """Yield 64 bits of each name, since the names of millions of rows would fill the memory."""
        for row, name in enumerate(names):
            if name is not None:
                linked.append(row)
                yield hash(name)

    _, first, number = np.unique(np.fromiter(hashes(), np.int64), return_index=True, return_inverse=True)
    rows = np.array(linked, np.int64)
    return np.stack([rows[first[number]], rows], axis=1)


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


def _poses(thumbnails: Mapped, rows: Rows) -> tuple[Rows, Versions]:
    """Return the `rows` of pictures that show something, and their descriptions in canonical form."""
    vectors, symmetries = np.empty((len(rows), NUM_COEFFICIENTS), np.float32), np.empty(len(rows), np.int8)
    kept, count = np.empty(len(rows), np.int64), 0
    for top in range(0, len(rows), BATCH_ROWS):
        part = rows[top : top + BATCH_ROWS]
        described = _describe(thumbnails[part])
        shown = described.any(axis=1)
        pose = canonical(described[shown])
        here = slice(count, count + len(pose.rows))
        kept[here], vectors[here], symmetries[here] = part[shown], pose.vectors, pose.symmetries
        count = here.stop
    return kept[:count], Versions(np.arange(count), symmetries[:count], vectors[:count])


def _describe(thumbnails: NDArray[np.uint8]) -> Floats:
    """Return the descriptions of `describe`, with zeros, which are near to no picture, for pictures that show nothing."""
    levels = thumbnails.astype(np.float32)
    energy = np.mean([np.square(np.diff(levels, axis=axis)).mean((1, 2, 3)) for axis in (1, 2)], axis=0)
    vectors = describe(thumbnails)
    vectors[np.sqrt(energy) < MIN_EDGE_LEVELS] = 0
    return vectors
