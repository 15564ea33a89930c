"""Comparison of proposed pairs by their fine structure, and the decision which of them are copies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.split.candidates import Candidates, Floats, Rows, Versions
from cnnkit.data.split.crowd import CROWD_RANK, crowd_members
from cnnkit.data.split.symmetry import IDENTITY, Symmetries, relative
from cnnkit.data.split.verify import FineStructure, align, compare_details
from cnnkit.data.store.facts import LOOK_SIZE, THUMBNAIL_SIZE
from cnnkit.data.store.store import Mapped

# A copy is nearer than COPY_RATIO times the distance to the crowd. Ratios of 0.3, 0.35, 0.4 and 0.45 find 77, 85, 90 and 93 % of the
# list. By eye, 1 in 50 of CIFAR-10's pairs from 0.2 to 0.3 is false. Up to 0.35 it is 1 in 11, up to 0.4 1 in 7 (56 pairs each).
COPY_RATIO = 0.4
MAX_ROOM = 0.5  # upper limit of the distance to the crowd, since a small set of images may have no crowd
MIN_AGREEMENT = 0.7  # of the edges of two thumbnails whose details are compared; 99 % of crops by 7.5 % of photographs have more
MAX_DETAIL_PARTNERS = 4  # pairs of one image whose details are compared: enough to connect the frames of a film
# Sides in px of the smaller image of a pair for a comparison of whole looks, and of looks of half the size. Of still smaller images the
# thumbnail shows everything.
MIN_LOOK_SIDE, MIN_REDUCED_SIDE = LOOK_SIZE, THUMBNAIL_SIZE
MAX_LOCAL_DIFFERENCE = 1.0  # of a copy's details in one cell; half of CIFAR-10's pairs above 0.8 are other silhouettes
# Of the thumbnails of turned images that are too small for details: one of eight symmetries fits many digits by chance.
MAX_TURNED_DISTANCE = 0.02
# Details that agree more, and differ less in every cell, belong to one picture whatever the crowd. They differ by noise alone, as frames
# of a still scene do. Different solar cells without a scratch agree by at most 0.99.
CERTAIN_AGREEMENT, CERTAIN_DIFFERENCE = 0.995, 0.05
CROWD_COSINE = 0.8  # a crowd with a lower cosine leaves a copy all the room
CROWDED_AGREEMENT = 0.95  # of details: neighbours of a crowd that agree less are not worth a word
# Of the estimate of all crowded pairs, which takes at most 0.5 CPU-s. A sampled image is compared with all others.
MAX_SAMPLED_IMAGES, MAX_SAMPLED_COSINES, SAMPLED_PARTNERS = 1000, 12_000_000, 4
# The same picture, re-encoded or resized, is not moved and has the same light. See docs/benchmarks/LOG.md, "Same picture".
MIN_SAME_AGREEMENT, MIN_SAME_REDUCED, MIN_SAME_EDGES = 0.99, 0.95, 0.97
MAX_SAME_DIFFERENCE, MAX_SAME_MOTION, MAX_SAME_GAIN, MAX_SAME_LEVELS = 0.1, 0.02, 1.1, 3.0


class Pictures(NamedTuple):
    """Pictures (R,) of a search: `rows` of thumbnails and looks, the smaller `sides` of their images in px, and canonical descriptions."""

    thumbnails: Mapped
    looks: Mapped
    rows: Rows
    sides: NDArray[np.int64]
    pose: Versions


class Comparisons(NamedTuple):
    """Pairs (P, 2) of indices of pictures, the symmetry of the first, the agreement of the edges, the motion, and the details.

    `detailed` (P,) is False for images that are too small for details. Their details are zero.
    """

    pairs: Rows
    symmetries: Symmetries
    edges: Floats
    motion: Floats
    details: FineStructure
    detailed: NDArray[np.bool_]

    def part(self, chosen: Rows | NDArray[np.bool_]) -> Comparisons:
        """Return the `chosen` pairs."""
        details = FineStructure(*(values[chosen] for values in self.details))
        return Comparisons(
            self.pairs[chosen], self.symmetries[chosen], self.edges[chosen], self.motion[chosen], details, self.detailed[chosen]
        )

    def joined(self, other: Comparisons) -> Comparisons:
        """Return these pairs and the new pairs of `other`, sorted."""
        base = 1 + max(int(pairs.max(initial=0)) for pairs in (self.pairs, other.pairs))
        codes, more = (pairs[:, 0] * base + pairs[:, 1] for pairs in (self.pairs, other.pairs))
        new = ~np.isin(more, codes)
        added = other.part(new)
        order = np.argsort(np.concatenate([codes, more[new]]), kind="stable")
        details = FineStructure(*(np.concatenate(values) for values in zip(self.details, added.details, strict=True)))
        return Comparisons(
            np.concatenate([self.pairs, added.pairs]),
            np.concatenate([self.symmetries, added.symmetries]),
            np.concatenate([self.edges, added.edges]),
            np.concatenate([self.motion, added.motion]),
            details,
            np.concatenate([self.detailed, added.detailed]),
        ).part(order)


class Decision(NamedTuple):
    """Masks (P,) of compared pairs: copies, copies in the same orientation and light, look-alikes, and pairs that the crowd refuses."""

    linked: NDArray[np.bool_]
    same: NDArray[np.bool_]
    alike: NDArray[np.bool_]
    crowded: NDArray[np.bool_]


def compare(pictures: Pictures, candidates: Candidates) -> Comparisons:
    """Align the candidates, keep the best symmetry of each pair, and compare the details of the pairs that agree best."""
    aligned = align(pictures.thumbnails, pictures.rows[candidates.pairs], candidates.symmetries)
    best = _best_of_pair(candidates.pairs, aligned.agreement)
    best = best[aligned.agreement[best] >= MIN_AGREEMENT]
    best = best[_best_partners(candidates.pairs[best], aligned.agreement[best])]
    pairs, symmetries, motion = candidates.pairs[best], candidates.symmetries[best], aligned.motion[best]
    details, detailed = _details(pictures, pairs, symmetries, motion)
    return Comparisons(pairs, symmetries, aligned.agreement[best], motion, details, detailed)


def decide(pictures: Pictures, compared: Comparisons, room: Floats, cluster_ids: Rows | None) -> Decision:
    """Decide on compared pairs; `room` (R,) is the distance to the crowd by descriptions.

    Near pairs within a cluster of `cluster_ids` (R,), the result of an earlier round, stay linked.
    """
    distance, limit = 1 - compared.details.agreement, COPY_RATIO * room[compared.pairs].min(axis=1)
    turned = ~compared.detailed & (compared.symmetries != IDENTITY)
    edges_near = 1 - compared.edges < np.where(turned, np.minimum(limit, MAX_TURNED_DISTANCE), limit)
    details_near = (distance < COPY_RATIO * MAX_ROOM) & (compared.details.local_difference < MAX_LOCAL_DIFFERENCE)
    near = np.where(compared.detailed, details_near, edges_near)
    linked = near.copy()
    known = np.zeros(len(near), np.bool_) if cluster_ids is None else cluster_ids[compared.pairs[:, 0]] == cluster_ids[compared.pairs[:, 1]]
    certain = (compared.details.agreement > CERTAIN_AGREEMENT) & (compared.details.local_difference < CERTAIN_DIFFERENCE)
    asked = np.flatnonzero(near & compared.detailed & ~known & ~certain)
    if len(asked):
        members, index = np.unique(compared.pairs[asked], return_inverse=True)
        fine_room = 1 - np.maximum(_crowd_agreement(pictures, members, cluster_ids), 1 - MAX_ROOM)
        linked[asked] = distance[asked] < COPY_RATIO * fine_room[index.reshape(-1, 2)].min(axis=1)
    crowded = near & ~linked & (compared.details.agreement > CROWDED_AGREEMENT)
    return Decision(linked, linked & _same(pictures, compared), crowded | (edges_near & ~linked), crowded)


def sample_crowded(pictures: Pictures, cluster_ids: Rows) -> tuple[Rows, float]:
    """Return some pairs (P, 2) whose details agree as those of copies, in different clusters of `cluster_ids` (R,), and their total number.

    The number is the Horvitz-Thompson estimator of a two-stage random sample: up to `MAX_SAMPLED_IMAGES` images, and
    `SAMPLED_PARTNERS` of the partners of each above `CROWD_COSINE`. It assumes that no crowded pair has a lower cosine in canonical form.
    """
    random, vectors = np.random.default_rng(0), pictures.pose.vectors
    count = min(MAX_SAMPLED_IMAGES, len(vectors), max(1, MAX_SAMPLED_COSINES // len(vectors)))
    drawn: list[Rows] = [np.empty((0, 2), np.int64)]
    weights: list[Floats] = [np.empty(0, np.float32)]
    for row in np.sort(random.choice(len(vectors), count, replace=False)).tolist():
        partners = np.flatnonzero((vectors @ vectors[row] > CROWD_COSINE) & (cluster_ids != cluster_ids[row]))
        chosen = random.choice(partners, min(SAMPLED_PARTNERS, len(partners)), replace=False)
        drawn.append(np.stack([np.full(len(chosen), row), chosen], axis=1))
        weights.append(np.full(len(chosen), len(partners) / max(1, len(chosen)), np.float32))
    tried = np.concatenate(drawn)
    symmetries = relative(pictures.pose.symmetries[tried[:, 0]], pictures.pose.symmetries[tried[:, 1]])
    aligned = align(pictures.thumbnails, pictures.rows[tried], symmetries)
    near = np.flatnonzero(aligned.agreement >= MIN_AGREEMENT)
    details, _ = _details(pictures, tried[near], symmetries[near], aligned.motion[near])
    hits = near[(details.agreement > CROWDED_AGREEMENT) & (details.local_difference < MAX_LOCAL_DIFFERENCE)]
    return np.sort(tried[hits], axis=1), float(np.concatenate(weights)[hits].sum()) * len(vectors) / count / 2


def _same(pictures: Pictures, compared: Comparisons) -> NDArray[np.bool_]:
    """Return a mask (P,) of the pairs of one picture in the same orientation and light, re-encoded or resized."""
    sides = pictures.sides[compared.pairs].min(axis=1)
    details = compared.details
    needed = np.where(sides >= MIN_LOOK_SIDE, MIN_SAME_AGREEMENT, MIN_SAME_REDUCED)
    fine = (details.agreement >= needed) & (details.local_difference <= MAX_SAME_DIFFERENCE)
    fine &= np.abs(np.log(details.gain + ~compared.detailed)) <= np.log(MAX_SAME_GAIN)
    still = (compared.symmetries == IDENTITY) & (np.abs(compared.motion) <= MAX_SAME_MOTION).all(axis=1)
    light = pictures.thumbnails[pictures.rows[compared.pairs]].mean((2, 3), dtype=np.float32)  # (P, 2, 3)
    levels = np.abs(light[:, 0] - light[:, 1]).max(axis=1)
    return still & (levels <= MAX_SAME_LEVELS) & (compared.edges >= MIN_SAME_EDGES) & (fine | ~compared.detailed)


def _details(pictures: Pictures, pairs: Rows, symmetries: Symmetries, motion: Floats) -> tuple[FineStructure, NDArray[np.bool_]]:
    """Return the details of pairs of indices, and a mask (P,) of the pairs that are large enough for them."""
    sides = pictures.sides[pairs].min(axis=1)
    result = FineStructure(*(np.zeros(len(pairs), np.float32) for _ in FineStructure._fields))
    whole = sides >= MIN_LOOK_SIDE
    for chosen, reduced in ((whole, False), ((sides >= MIN_REDUCED_SIDE) & ~whole, True)):
        found = compare_details(pictures.looks, pictures.rows[pairs[chosen]], symmetries[chosen], motion[chosen], reduced=reduced)
        for values, part in zip(result, found, strict=True):
            values[chosen] = part
    return result, sides >= MIN_REDUCED_SIDE


def _crowd_agreement(pictures: Pictures, asked: Rows, cluster_ids: Rows | None) -> Floats:
    """Return the agreement (Q,) of the details of pictures `asked` with their crowd, -1 where the crowd is far.

    Of the nearest pictures of the sample, which descriptions find, the crowd is the picture of its rank by details.
    """
    rank = CROWD_RANK  # in every round: copies that no round has linked yet are no crowd
    members, cosines = crowd_members(pictures.pose.vectors, asked, rank + 2, cluster_ids)
    if members.shape[1] < rank:
        return np.full(len(asked), -1.0, np.float32)
    agreement = np.full(cosines.shape, -1.0, np.float32)
    near = cosines > CROWD_COSINE
    near &= near.sum(axis=1, keepdims=True) >= rank
    pairs = np.stack([np.broadcast_to(asked[:, None], members.shape)[near], members[near]], axis=1)
    numbers = pictures.pose.symmetries
    symmetries = relative(numbers[pairs[:, 0]], numbers[pairs[:, 1]])
    aligned = align(pictures.thumbnails, pictures.rows[pairs], symmetries)
    details, _ = _details(pictures, pairs, symmetries, aligned.motion)
    agreement[near] = np.where(details.agreement > CERTAIN_AGREEMENT, -1.0, details.agreement)  # a copy is no crowd
    return np.partition(agreement, -rank, axis=1)[:, -rank]


def _best_of_pair(pairs: Rows, agreement: Floats) -> Rows:
    """Return the index of the best entry of each pair; `pairs` are sorted, and a pair occurs once for each of its symmetries."""
    order = np.lexsort((-agreement, pairs[:, 1], pairs[:, 0]))
    first = np.ones(len(order), np.bool_)
    first[1:] = (np.diff(pairs[order], axis=0) != 0).any(axis=1)
    return order[first]


def _best_partners(pairs: Rows, agreement: Floats) -> NDArray[np.bool_]:
    """Return a mask (P,) of the pairs that are among the `MAX_DETAIL_PARTNERS` best of one of their images."""
    images, entries = pairs.T.ravel(), np.tile(np.arange(len(pairs)), 2)
    order = np.lexsort((-agreement[entries], images))
    rank = np.arange(len(order)) - np.searchsorted(images[order], images[order])
    kept = np.zeros(len(pairs), np.bool_)
    kept[entries[order[rank < MAX_DETAIL_PARTNERS]]] = True
    return kept
