"""Quotas: every class fills val and test with its units of the smallest hashes.

Each unit has two hashes of its name. Test takes the units of the smallest first hash until every class has its share. Val takes the
units of the smallest second hash out of the rest. So the shares hold for every class, and an added image moves only units at the border:
at most one unit between test and the other splits, and at most two between val and train. docs/benchmarks/split_stability.py measures it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.columns import Codes, Columns, Rows
from cnnkit.data.source import SPLITS, TEST, TRAIN, VAL
from cnnkit.data.split.units import Units

NO_SPLIT = -1  # the number of a split is its place in SPLITS
BLOCK_UNITS = 65_536  # that are assigned at a time
Splits = NDArray[np.int8]


@dataclass(frozen=True)
class _Contents:
    """The images of U units in L classes: `units`, `labels` and `counts` (P,) say how many images of a class a unit has, by unit.

    `first` (U + 1,) are the bounds of the units in these arrays.
    """

    units: Rows
    labels: Rows
    counts: Rows
    first: Rows

    def of(self, unit: int) -> list[tuple[int, int]]:
        """Return class and number of images for every class of a unit."""
        part = slice(self.first[unit], self.first[unit + 1])
        return list(zip(self.labels[part].tolist(), self.counts[part].tolist(), strict=True))


def fill_quotas(labels: Codes, units: Units, shares: Mapping[str, float], seed: int, held: Splits) -> tuple[Splits, Counter[str]]:
    """Return the split (U,) of every unit, and the number of units by class that were moved since a split had no image of the class.

    `labels` and `units` (N,) are the class and the unit of every image. `shares` has the share of every split and sums to 1. Units with a
    split in `held` (U,) keep it and count for its quota. A unit without an image gets train.
    """
    count = len(units.names)
    pairs, counts = np.unique(units.ids * len(labels.names) + labels.codes, return_counts=True)
    owners, classes = np.divmod(pairs, len(labels.names))
    contents = _Contents(owners, classes, counts, np.searchsorted(owners, np.arange(count + 1)))
    total = np.bincount(labels.codes, minlength=len(labels.names))
    splits = held.copy()
    present = np.unique(units.ids)
    positions = hash_positions(seed, units.names)
    ranks = units.ranks
    for part, split in enumerate((TEST, VAL)):
        number = SPLITS.index(split)
        missing = np.array([quotas(images, shares)[split] if images else 0 for images in total.tolist()], np.int64)
        its = held[owners] == number
        np.subtract.at(missing, classes[its], counts[its])
        free = present[splits[present] == NO_SPLIT]
        order = free[np.lexsort((ranks[free], positions[free, part]))]
        _fill(order, number, splits, missing, contents)
    splits[splits == NO_SPLIT] = SPLITS.index(TRAIN)
    return splits, _fill_missing(labels.names, contents, splits, shares, (positions[:, 0], ranks), held != NO_SPLIT)


def _fill(order: Rows, number: int, splits: Splits, missing: Rows, contents: _Contents) -> None:
    """Put the units that bring a split nearer to its quotas, taken in `order`, into the split `number`; `missing` is what it lacks.

    A unit helps if the split, summed over its classes, is nearer to the quotas with its images.
    """
    sizes = np.diff(contents.first)
    for start in range(0, len(order), BLOCK_UNITS):
        block = order[start : start + BLOCK_UNITS]
        first = contents.first[block]
        # A class whose quota is full takes no unit of its own; most units are of this kind.
        block = block[(missing[contents.labels[first]] > 0) | (sizes[block] > 1)]
        for unit in block.tolist():
            its = contents.of(unit)
            if sum(abs(int(missing[label]) - images) - abs(int(missing[label])) for label, images in its) < 0:
                splits[unit] = number
                for label, images in its:
                    missing[label] -= images


def quotas(number: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Return how many of the `number` images of a class val and test get: rounded shares, but at least 1 if the share is not 0.

    The larger quota gives way if train would have no image.
    """
    wanted = {split: max(1, int(number * shares[split] + 0.5)) if shares[split] else 0 for split in (TEST, VAL)}
    while sum(wanted.values()) >= number and max(wanted.values()) > 1:
        wanted[max(wanted, key=lambda split: wanted[split])] -= 1
    return wanted


def hash_position(seed: int, name: str, part: int = 0) -> float:
    """Return the position of `name` in [0, 1), a uniform hash of `seed` and `name`; the positions of `part` 0 and 1 are independent."""
    digest = _digest(seed, name)
    return int.from_bytes(digest[8 * part : 8 * part + 8]) / 2**64


def hash_positions(seed: int, names: Columns[str]) -> NDArray[np.float64]:
    """Return both positions (U, 2) of every name, as `hash_position` does."""
    found = np.empty((len(names), 2))
    for start in range(0, len(names), BLOCK_UNITS):
        part = names.block(start, min(start + BLOCK_UNITS, len(names)))
        digests = b"".join(_digest(seed, name)[:16] for name in part)
        found[start : start + BLOCK_UNITS] = np.frombuffer(digests, ">u8").reshape(-1, 2) / 2.0**64
    return found


def _digest(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()


def _fill_missing(
    names: Sequence[str | None],
    contents: _Contents,
    splits: Splits,
    shares: Mapping[str, float],
    order: tuple[NDArray[np.float64], NDArray[np.generic]],
    is_held: NDArray[np.bool_],
) -> Counter[str]:
    """Move units in `splits` so that every class has a unit in every split with a share; return the number of moves by class.

    A large unit may be worse than none for a quota, and leave a split without its class. The unit with the fewest images moves, then
    the unit of the smallest hash, then of the smallest name, from a split that has more units of the class.
    """
    count = np.zeros((len(names), len(SPLITS)), np.int64)  # the units of each class in each split
    np.add.at(count, (contents.labels, splits[contents.units]), 1)
    moves: Counter[str] = Counter()
    # Sorted, as two classes may share a unit and the first class moves it.
    for label in sorted(np.unique(contents.labels).tolist(), key=lambda code: names[code] or ""):
        for split in reversed([number for number, name in enumerate(SPLITS) if shares[name] > 0]):
            if count[label, split]:
                continue
            inside = contents.units[contents.labels == label]
            spare = [
                unit for unit in inside[~is_held[inside]].tolist() if all(count[other, splits[unit]] > 1 for other, _ in contents.of(unit))
            ]
            if not spare:
                continue
            moved = min(spare, key=lambda unit: (sum(images for _, images in contents.of(unit)), order[0][unit], order[1][unit]))
            for other, _ in contents.of(moved):
                count[other, splits[moved]] -= 1
                count[other, split] += 1
            splits[moved] = split
            moves[names[label] or ""] += 1
    return moves
