"""Who trains and who tests: sides drawn from hashes of content, so that they stay when images are added.

What belongs together lands together: exact and near copies of an image, and images of one group. Such a unit has a place
between 0 and 1, the hash of the seed and of its content or group, and the shares cut that line into train, val and test.
File names, the order of listing and the other images of the data play no part in it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.source import SPLITS, TEST, TRAIN, VAL, Record
from cnnkit.data.split.duplicates import clusters, link_equal
from cnnkit.errors import DataError

NO_PAIRS = np.empty((0, 2), np.int64)


class Sample(NamedTuple):
    """One readable image with its side: a row of split.csv; `row` is its place in the store, `group` as the source has it."""

    path: str
    label: str
    split: str
    sha256: str
    row: int
    group: str | None = None


@dataclass(frozen=True)
class SplitAssignment:
    """The split of every record, and what the user should know of how they came about."""

    splits: list[str]
    notes: tuple[str, ...] = ()


def assign_splits(
    records: Sequence[Record],
    keys: Sequence[str],
    shares: Sequence[float],
    seed: int,
    *,
    near: NDArray[np.int64] = NO_PAIRS,
    pinned: Sequence[str | None] | None = None,
) -> SplitAssignment:
    """Return the side of every record, train, val or test.

    `keys` are the SHA-256 of the contents: equal keys are one image. `near` (P, 2) are rows of near copies. Records that
    bring a split keep it, and so do those with a `pinned` one; copies of a pinned image join it. If the source fixes train
    and test but not val, val is taken out of train; if it fixes train and val, there is no test. Raises `DataError` if a
    class is too small for the splits asked for.
    """
    fixed = {record.split for record in records if record.split is not None}
    wanted: dict[str, float] = dict(zip(SPLITS, (*shares, 0.0), strict=False))
    units, alike = _units_of(records, keys, near, sum(share > 0 for share in wanted.values()))
    held = list(pinned) if pinned is not None else [None] * len(records)
    if VAL in fixed:
        return SplitAssignment(splits := [record.split or TRAIN for record in records], (*alike, *_leaks(units, splits)))
    if fixed and fixed != {TRAIN}:
        total = wanted[TRAIN] + wanted[VAL]
        wanted = {TRAIN: wanted[TRAIN] / total, VAL: wanted[VAL] / total, TEST: 0.0}
    tested = np.array([record.split == TEST for record in records])
    free = np.flatnonzero(~tested).tolist()
    theirs = [units[row] for row in free]
    drawn = _draw_splits([records[row] for row in free], [keys[row] for row in free], theirs, [held[row] for row in free], wanted, seed)
    splits = [TEST] * len(records)
    for row, split in zip(free, drawn.splits, strict=True):
        splits[row] = split
    return SplitAssignment(splits, (*alike, *drawn.notes, *_leaks(units, splits)))


def _units_of(records: Sequence[Record], keys: Sequence[str], near: NDArray[np.int64], needed: int) -> tuple[list[int], list[str]]:
    """Return the unit of every record (N,), and a note on classes whose images are all so alike that nearness cannot tell copies.

    Parts on a conveyor, frames of a still camera: were near ones kept together, such a class could not be divided at all.
    """
    units = _units(records, keys, near)
    together = _units_per_class(records, units)
    if not len(near) or min(together.values()) >= needed:
        return units, []
    apart = _units_per_class(records, _units(records, keys, NO_PAIRS))
    crowded = {label for label, number in together.items() if number < needed <= apart[label]}
    if not crowded:
        return units, []
    kept = [records[one].label not in crowded and records[other].label not in crowded for one, other in near.tolist()]
    note = (
        f"the images of {', '.join(sorted(crowded))} are nearly all alike, so near copies of them are not kept on one side; "
        f"if they come from few scenes, say which: --group-by"
    )
    return _units(records, keys, near[np.array(kept)]), [note]


def _units_per_class(records: Sequence[Record], units: Sequence[int]) -> Counter[str]:
    return Counter(label for label, _ in {(record.label, unit) for record, unit in zip(records, units, strict=True)})


def _units(records: Sequence[Record], keys: Sequence[str], near: NDArray[np.int64]) -> list[int]:
    """Return the unit of every record, as the first row of it."""
    links = [near, link_equal(keys)]
    if any(record.group is not None for record in records):
        links.append(link_equal([record.group for record in records]))
    return clusters(len(records), np.concatenate(links)).tolist()


def _draw_splits(
    records: Sequence[Record],
    keys: Sequence[str],
    units: Sequence[int],
    pinned: Sequence[str | None],
    shares: Mapping[str, float],
    seed: int,
) -> SplitAssignment:
    """Cut the line of places by `shares`; then see that every class is on every side that was asked for."""
    names: dict[int, str] = {}  # what a unit is called: its least group, else its least content; the order plays no part
    for record, key, unit in zip(records, keys, units, strict=True):
        name = f"0:{record.group}" if record.group is not None else f"1:{key}"
        names[unit] = min(names.get(unit, name), name)
    places = {unit: hash_position(seed, name[2:]) for unit, name in names.items()}
    sides = {unit: _split_at(place, shares) for unit, place in places.items()}
    notes = _apply_pins(units, pinned, sides)
    held = {unit for unit, split in zip(units, pinned, strict=True) if split is not None}
    lent = _fill_missing_splits(records, units, places, sides, shares, held)
    if lent:
        some = ", ".join(list(lent)[:5]) + (", …" if len(lent) > 5 else "")  # noqa: PLR2004 (one line)
        notes.append(
            f"{len(lent)} classes are so small that hashing left a split without an image of them ({some}); "
            f"{sum(lent.values())} images were moved there, and may move back when images are added"
        )
    return SplitAssignment([sides[unit] for unit in units], tuple(notes))


def hash_position(seed: int, name: str) -> float:
    """Return a place in [0, 1) on the line, uniform in the hash of `name`."""
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _split_at(place: float, shares: Mapping[str, float]) -> str:
    if place < shares[TRAIN] or not shares[VAL] + shares[TEST]:
        return TRAIN
    return VAL if place < shares[TRAIN] + shares[VAL] or not shares[TEST] else TEST


def _apply_pins(units: Sequence[int], pinned: Sequence[str | None], sides: dict[int, str]) -> list[str]:
    """Give units the side of their pinned images; return what is wrong with the pins."""
    wishes: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for unit, split in zip(units, pinned, strict=True):
        if split is not None:
            wishes[unit][split] += 1
    torn = 0
    for unit, wish in wishes.items():
        sides[unit] = min(wish, key=lambda split: (-wish[split], SPLITS.index(split)))
        torn += len(wish) > 1
    if not torn:
        return []
    return [f"the split file has copies of {torn} images, or images of one group, on several sides; each now stands where most of it stood"]


def _fill_missing_splits(
    records: Sequence[Record],
    units: Sequence[int],
    places: Mapping[int, float],
    sides: dict[int, str],
    shares: Mapping[str, float],
    held: set[int],
) -> Counter[str]:
    """Move units so that every class has one on every side asked for; return how many, by class.

    The unit whose place is nearest to the missing side goes, of the classes' side that can spare it.
    """
    needed = [split for split in SPLITS if shares[split] > 0]
    starts = {TRAIN: 0.0, VAL: shares[TRAIN], TEST: shares[TRAIN] + shares[VAL]}
    members: defaultdict[str, set[int]] = defaultdict(set)
    images: Counter[str] = Counter()
    for record, unit in zip(records, units, strict=True):
        members[record.label].add(unit)
        images[record.label] += 1
    lent: Counter[str] = Counter()
    for label, inside in sorted(members.items()):  # not as listed: two classes may share a unit, and the first one moves it
        _check_size(label, images[label], len(inside), needed)
        for split in sorted(needed, key=SPLITS.index, reverse=True):
            count = Counter(sides[unit] for unit in inside)
            if count[split]:
                continue
            spare = [unit for unit in inside if count[sides[unit]] > 1 and unit not in held]
            if not spare:
                continue
            low, high = starts[split], starts[split] + shares[split]
            moved = min(spare, key=lambda unit: (max(low - places[unit], places[unit] - high), places[unit]))
            sides[moved] = split
            lent[label] += 1
    return lent


def _check_size(label: str, images: int, units: int, needed: Sequence[str]) -> None:
    if units >= len(needed):
        return
    plural = "image" if images == 1 else "images"
    copies = "" if images == units else f" ({units} once copies and groups are taken together)"
    raise DataError(
        f"class {label!r} has {images} {plural}{copies}; {len(needed)} are needed, one each for {', '.join(needed)}: "
        f"add images, or leave the class out with --classes"
    )


def _leaks(units: Sequence[int], splits: Sequence[str]) -> Iterable[str]:
    """Say how many images of val and test have a copy, or an image of their group, in train."""
    trained = {unit for unit, split in zip(units, splits, strict=True) if split == TRAIN}
    leaking = Counter(split for unit, split in zip(units, splits, strict=True) if split != TRAIN and unit in trained)
    for split in (VAL, TEST):
        if leaking[split]:
            yield (
                f"{leaking[split]:,} {split} images have an exact or near copy in train, or are of one group with an image there: "
                f"figures of {split} are too good by what was learned by heart; cnnkit doctor lists them"
            )
