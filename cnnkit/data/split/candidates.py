"""Near-copy candidates: short descriptions of pictures, and pairs of rows with similar descriptions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.split.symmetry import NUM_SYMMETRIES, Symmetries, canonical_versions, frequency_moves, inverse, relative
from cnnkit.data.store.facts import LUMA_WEIGHTS, THUMBNAIL_SIZE

Floats = NDArray[np.floating]  # float32 throughout
Rows = NDArray[np.int64]

# Frequencies per axis in the description of a picture. These values give the fewest false near duplicates in CIFAR-10: see
# docs/benchmarks/LOG.md, "Description of near copies".
LUMA_FREQUENCIES, CHROMA_FREQUENCIES, CHROMA_WEIGHT = 6, 4, 2.0
FREQUENCIES = (LUMA_FREQUENCIES, CHROMA_FREQUENCIES, CHROMA_FREQUENCIES)  # of the three channels
NUM_COEFFICIENTS = sum(count * count - 1 for count in FREQUENCIES)  # 65
# The amplitudes of photographs are about 1 / frequency. Without weights the coarsest shapes dominate; at power 1 the details
# dominate that change with re-encoding or a shift by a pixel.
FREQUENCY_POWER = 0.75
CHROMA_MATRIX = np.array([[-0.169, 0.5], [-0.331, -0.419], [0.5, -0.081]], np.float32)  # ITU-R BT.601 Cb and Cr

MAX_PARTNERS = 16  # nearest later rows that one row is paired with: enough to connect the frames of a film
MAX_EXHAUSTIVE_ROWS = 8000  # up to this number of rows, all pairs and symmetries are compared, in about a CPU-second
# Distance from the canonical form, of the two lowest frequencies of unit vectors, up to which a row is also searched in another form. At
# 0.06, 0.07 and 0.08 98.1, 98.6 and 98.9 % of CIFAR-10's copies meet, with 2.4, 2.7 and 2.9 forms of a row. The limits of many
# rows are stricter, and so are the distances of their copies: see docs/benchmarks/LOG.md, "Near copies of a million images".
CANONICAL_MARGIN, CANONICAL_MARGIN_OF_MANY, MANY_ROWS = 0.08, 0.05, 100_000
ALL_SYMMETRIES = 2.0  # no coordinate of a unit vector is farther from the canonical form
SYMMETRY_MARGIN = 0.03  # of the cosine: the alignment decides between symmetries of one pair that are this near
# Above it, each row belongs to its nearest lists, and only rows of one list are compared. Of all pairs above their limits 98 % meet in
# five lists of CIFAR-10, see docs/benchmarks/LOG.md, "Lists of canonical forms".
LISTS_PER_ROW, ROWS_PER_LIST = 5, 250  # the length is the average one if each row were in one list
# Of many rows, long lists cost less than many lists: a million rows take 106 CPU-seconds with 2 of 1,000 rows, and 137 with 3.
LISTS_PER_ROW_OF_MANY, LISTS_PER_ROW_OF_MOST, ROWS_PER_LIST_OF_MANY, MOST_ROWS = 3, 2, 1000, 500_000
_BLOCK_ROWS, _QUERY_ROWS, _BLOCK_COLUMNS = 1024, 512, 4096  # 8 MB of similarities; smaller and larger blocks take up to twice as long


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


class Candidates(NamedTuple):
    """Pairs (P, 2) of rows i < j, sorted, each with the symmetry (P,) that turns picture i nearest to picture j.

    A pair of pictures that are symmetric themselves occurs with each of its symmetries that is nearly as near.
    """

    pairs: Rows
    symmetries: Symmetries


class Versions(NamedTuple):
    """Descriptions of some rows, each after a symmetry, in the order of the rows."""

    rows: Rows
    symmetries: Symmetries
    vectors: Floats

    def part(self, chosen: Rows) -> Versions:
        """Return the `chosen` versions."""
        return Versions(self.rows[chosen], self.symmetries[chosen], self.vectors[chosen])


def canonical(vectors: Floats) -> Versions:
    """Return every description (N, 65) in canonical form, in which turned copies have nearly equal vectors."""
    mask = canonical_versions(*_lowest(vectors), 0.0)
    numbers = mask.argmax(axis=1).astype(np.int8)  # the first of several
    return Versions(np.arange(len(vectors)), numbers, _moved(vectors, numbers))


def originals(pose: Versions) -> Floats:
    """Return the descriptions (N, 65) whose canonical form is `pose`."""
    return _moved(pose.vectors, inverse(pose.symmetries))


def near_neighbours(pose: Versions, limits: Floats) -> Candidates:
    """Return the pairs of pictures with a cosine of their descriptions above the `limits` (N,) of both rows after some symmetry.

    `pose` (N,) are the descriptions in canonical form. A row has at most `MAX_PARTNERS` pairs with later rows, the nearest. Up to
    `MAX_EXHAUSTIVE_ROWS` rows all pairs and all symmetries are compared. Above, the comparison has only rows of one list, in canonical
    form and in the forms within `CANONICAL_MARGIN` of it.
    """
    columns = Versions(np.arange(len(limits)), pose.symmetries, pose.vectors)
    if len(limits) <= MAX_EXHAUSTIVE_ROWS:
        queries = _Queries.within(columns, ALL_SYMMETRIES)
        found = [_search(queries.part(np.arange(len(queries.rows))), columns, limits)]
    else:
        queries = _Queries.within(columns, CANONICAL_MARGIN if len(limits) <= MANY_ROWS else CANONICAL_MARGIN_OF_MANY)
        found = [_search(queries.part(asked), columns.part(held), limits) for asked, held in _lists(queries, columns)]
    return _distinct(_Hits.join(found))


class _Queries(NamedTuple):
    """Versions of the rows of `pose`: rows and symmetries, whose vectors are made a part at a time, as all of them take much memory."""

    pose: Versions
    rows: Rows
    symmetries: Symmetries

    @classmethod
    def within(cls, pose: Versions, margin: float) -> _Queries:
        """Return the versions of every row within `margin` of the canonical form."""
        mask = np.empty((len(pose.rows), NUM_SYMMETRIES), np.bool_)
        for top in range(0, len(mask), _BLOCK_ROWS):
            part = pose.part(np.arange(top, min(top + _BLOCK_ROWS, len(mask))))
            mask[top : top + _BLOCK_ROWS] = canonical_versions(*_lowest(originals(part)), margin)
        rows, numbers = np.nonzero(mask)
        return cls(pose, rows, numbers.astype(np.int8))

    def part(self, chosen: Rows) -> Versions:
        """Return the `chosen` versions."""
        rows, symmetries = self.rows[chosen], self.symmetries[chosen]
        moves = relative(inverse(self.pose.symmetries[rows]), inverse(symmetries))
        return Versions(rows, symmetries, _moved(self.pose.vectors[rows], moves))


class _Hits(NamedTuple):
    """Similar pairs: rows i < j, the symmetry that turns i into j, and the cosine above the limit of row i."""

    first: Rows
    second: Rows
    symmetries: Symmetries
    excess: Floats

    @classmethod
    def join(cls, parts: Sequence[_Hits]) -> _Hits:
        return cls(*(np.concatenate(values) for values in zip(_NO_HITS, *parts, strict=True)))

    def part(self, chosen: Rows | NDArray[np.bool_]) -> _Hits:
        return _Hits(self.first[chosen], self.second[chosen], self.symmetries[chosen], self.excess[chosen])


_NO_HITS = _Hits(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int8), np.empty(0, np.float32))


def _lowest(vectors: Floats) -> tuple[Floats, Floats]:
    """Return the coefficients (N,) of the lowest frequency of the luma, down and to the right."""
    return vectors[:, LUMA_FREQUENCIES - 1], vectors[:, 0]


def _moved(vectors: Floats, symmetries: Symmetries) -> Floats:
    """Return every description (N, 65) after its symmetry of `symmetries` (N,)."""
    indices, signs = frequency_moves(FREQUENCIES)
    moved = np.empty(vectors.shape, np.float32)
    for number in range(NUM_SYMMETRIES):
        chosen = np.flatnonzero(symmetries == number)
        moved[chosen] = vectors[chosen][:, indices[number]] * signs[number]
    return moved


def _search(queries: Versions, columns: Versions, limits: Floats) -> _Hits:
    """Return the pairs of a query and a later row of `columns` above the limits of both, from a comparison of all, in blocks."""
    # One more dimension subtracts the limit of the row from every cosine, faster than a pass over the block.
    asked = np.column_stack([queries.vectors, -limits[queries.rows]])
    held = np.column_stack([columns.vectors, np.ones(len(columns.rows), np.float32)]).T.copy()
    found: list[_Hits] = []
    for top in range(0, len(asked), _QUERY_ROWS):
        rows = queries.rows[top : top + _QUERY_ROWS]
        pieces: list[_Hits] = []
        for left in range(int(np.searchsorted(columns.rows, rows[0], "right")), held.shape[1], _BLOCK_COLUMNS):
            others = columns.rows[left : left + _BLOCK_COLUMNS]
            block = asked[top : top + _QUERY_ROWS] @ held[:, left : left + _BLOCK_COLUMNS]
            query, column = _above_zero(block, rows, others)
            excess = block[query, column]
            first, second = rows[query], others[column]
            both = excess + limits[first] > limits[second]
            symmetries = relative(queries.symmetries[top + query[both]], columns.symmetries[left + column[both]])
            pieces.append(_Hits(first[both], second[both], symmetries, excess[both]))
        found.append(_nearest(_Hits.join(pieces)))
    return _Hits.join(found)


def _above_zero(block: Floats, rows: Rows, others: Rows) -> tuple[Rows, Rows]:
    """Return the positions of the positive values of a block whose column is a later row than the query's.

    `rows` and `others` are the rows of the queries and of the columns. If the values are many, only the `MAX_PARTNERS` largest of each
    query are returned.
    """
    hits = np.flatnonzero(block > 0)
    if len(hits) > MAX_PARTNERS * len(block):
        block[rows[:, None] >= others] = -1.0
        best = np.argpartition(block, max(0, block.shape[1] - MAX_PARTNERS), axis=1)[:, -MAX_PARTNERS:]
        hits = (best + block.shape[1] * np.arange(len(block))[:, None]).ravel()
        hits = hits[block.ravel()[hits] > 0]
    query, column = np.divmod(hits, block.shape[1])
    later = rows[query] < others[column]
    return query[later], column[later]


def _nearest(hits: _Hits) -> _Hits:
    """Return the hits of each first row with its `MAX_PARTNERS` most similar partners."""
    hits = hits.part(np.lexsort((hits.symmetries, hits.second, -hits.excess, hits.first)))
    rank = np.arange(len(hits.first)) - np.searchsorted(hits.first, hits.first)
    return hits.part(rank < MAX_PARTNERS)


def _distinct(hits: _Hits) -> Candidates:
    """Return each pair with the symmetries that are at most `SYMMETRY_MARGIN` less similar than its nearest one."""
    hits = hits.part(np.lexsort((hits.symmetries, -hits.excess, hits.second, hits.first)))
    new_pair = np.ones(len(hits.first), np.bool_)
    new_pair[1:] = (np.diff(hits.first) != 0) | (np.diff(hits.second) != 0)
    best = hits.excess[new_pair][np.cumsum(new_pair) - 1]
    hits = hits.part(hits.excess >= best - SYMMETRY_MARGIN)
    hits = hits.part(np.lexsort((hits.symmetries, hits.second, hits.first)))
    repeated = np.zeros(len(hits.first), np.bool_)  # two rows may meet in several lists
    repeated[1:] = (np.diff(hits.first) == 0) & (np.diff(hits.second) == 0) & (np.diff(hits.symmetries) == 0)
    hits = _nearest(hits.part(~repeated))
    hits = hits.part(np.lexsort((hits.symmetries, hits.second, hits.first)))
    return Candidates(np.stack([hits.first, hits.second], axis=1), hits.symmetries)


def _lists(queries: _Queries | Versions, columns: Versions) -> Iterator[tuple[Rows, Rows]]:
    """Yield the indices of the queries and of the columns of each list, ascending.

    Each row is in its nearest lists, so two near rows probably share a list.
    """
    number = len(columns.rows)
    lists, length = LISTS_PER_ROW, ROWS_PER_LIST
    if number > MANY_ROWS:
        lists, length = LISTS_PER_ROW_OF_MANY if number <= MOST_ROWS else LISTS_PER_ROW_OF_MOST, ROWS_PER_LIST_OF_MANY
    centres = _centres(columns.vectors, max(1, number // length))
    lists = min(len(centres), lists)
    asked, held = _members(queries, centres, lists), _members(columns, centres, lists)
    yield from zip(asked, held, strict=True)


def _members(versions: _Queries | Versions, centres: Floats, lists: int) -> list[Rows]:
    """Return the ascending indices of the `versions` in each list, each in its nearest `lists`."""
    nearest = np.empty((len(versions.rows), lists), np.int32)
    for top in range(0, len(nearest), _BLOCK_ROWS):
        similarity = versions.part(np.arange(top, min(top + _BLOCK_ROWS, len(nearest)))).vectors @ centres.T
        here = np.arange(len(similarity))
        for turn in range(lists):
            nearest[top + here, turn] = best = similarity.argmax(1)
            similarity[here, best] = -2.0
    order = np.argsort(nearest.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(nearest.ravel(), minlength=len(centres)))
    return [members // lists for members in np.split(order, ends[:-1])]


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
