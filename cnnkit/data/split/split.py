"""Assignment of images to train, val and test by hashes of their content, which stays stable when images are added.

A unit holds the exact and near copies of an image and the images of its group, and lands in one split. Its position between 0 and 1 is
the hash of the seed and of its group or content. The shares cut the line from 0 to 1 into train, val and test. File names, the order of
the images and other images do not matter.
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
    """One readable image with its split: a row of split.csv, with its `row` in the store and its `group` in the source."""

    path: str
    label: str
    split: str
    sha256: str
    row: int
    group: str | None = None


@dataclass(frozen=True)
class SplitAssignment:
    """The split of every record, and notes for the user."""

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
    """Return the split of every record: train, val or test.

    `keys` are the SHA-256 of the contents; equal keys mean the same image. `near` (P, 2) are pairs of rows of near copies. Records with a
    split of the source or a `pinned` split keep it, and copies of a pinned image join it. If the source fixes train and test but not
    val, val is taken out of train. If it fixes train and val, there is no test. Raises `DataError` if a class has too few images for
    the splits.
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
    drawn = _draw_splits(
        [records[row] for row in free],
        [keys[row] for row in free],
        [units[row] for row in free],
        [held[row] for row in free],
        wanted,
        seed,
    )
    splits = [TEST] * len(records)
    for row, split in zip(free, drawn.splits, strict=True):
        splits[row] = split
    return SplitAssignment(splits, (*alike, *drawn.notes, *_leaks(units, splits)))


def _units_of(records: Sequence[Record], keys: Sequence[str], near: NDArray[np.int64], needed: int) -> tuple[list[int], list[str]]:
    """Return the unit of every record (N,), and a note on classes whose images are too similar for the detection of near copies.

    Examples are parts on a conveyor and frames of a still camera. With near copies in one unit, such a class could not be split.
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
        f"nearly all images of {', '.join(sorted(crowded))} are alike, so their near copies are not kept in one split; "
        f"if they come from few scenes, name the scenes with --group-by"
    )
    return _units(records, keys, near[np.array(kept)]), [note]


def _units_per_class(records: Sequence[Record], units: Sequence[int]) -> Counter[str]:
    return Counter(label for label, _ in {(record.label, unit) for record, unit in zip(records, units, strict=True)})


def _units(records: Sequence[Record], keys: Sequence[str], near: NDArray[np.int64]) -> list[int]:
    """Return the unit of every record, numbered by its first row."""
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
    """Assign every unit by its position and `shares`; then fill splits that lack a class."""
    names: dict[int, str] = {}  # the smallest group of a unit, else its smallest content, so that the order does not matter
    for record, key, unit in zip(records, keys, units, strict=True):
        name = f"0:{record.group}" if record.group is not None else f"1:{key}"
        names[unit] = min(names.get(unit, name), name)
    positions = {unit: hash_position(seed, name[2:]) for unit, name in names.items()}
    splits = {unit: _split_at(position, shares) for unit, position in positions.items()}
    notes = _apply_pins(units, pinned, splits)
    held = {unit for unit, split in zip(units, pinned, strict=True) if split is not None}
    moved = _fill_missing_splits(records, units, positions, splits, shares, held)
    if moved:
        some = ", ".join(list(moved)[:5]) + (", …" if len(moved) > 5 else "")  # noqa: PLR2004 (one line)
        notes.append(
            f"hashing left a split without an image of {len(moved)} small classes ({some}); "
            f"{sum(moved.values())} images were moved there and may move back when images are added"
        )
    return SplitAssignment([splits[unit] for unit in units], tuple(notes))


def hash_position(seed: int, name: str) -> float:
    """Return the position of `name` in [0, 1), a uniform hash of `seed` and `name`."""
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _split_at(position: float, shares: Mapping[str, float]) -> str:
    if position < shares[TRAIN] or not shares[VAL] + shares[TEST]:
        return TRAIN
    return VAL if position < shares[TRAIN] + shares[VAL] or not shares[TEST] else TEST


def _apply_pins(units: Sequence[int], pinned: Sequence[str | None], splits: dict[int, str]) -> list[str]:
    """Put units into the split of most of their pinned images; return a note on units with pins to several splits."""
    pins: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for unit, split in zip(units, pinned, strict=True):
        if split is not None:
            pins[unit][split] += 1
    divided = 0
    for unit, counts in pins.items():
        splits[unit] = min(counts, key=lambda split: (-counts[split], SPLITS.index(split)))
        divided += len(counts) > 1
    if not divided:
        return []
    return [f"the split file has {divided} sets of copies, or groups, in several splits; each is now in the split of most of its images"]


def _fill_missing_splits(
    records: Sequence[Record],
    units: Sequence[int],
    positions: Mapping[int, float],
    splits: dict[int, str],
    shares: Mapping[str, float],
    held: set[int],
) -> Counter[str]:
    """Move units in `splits` so that every class has a unit in every split with a share; return the number of moves by class.

    The unit with the position nearest to the missing split moves, from a split that has more units of the class.
    """
    needed = [split for split in SPLITS if shares[split] > 0]
    starts = {TRAIN: 0.0, VAL: shares[TRAIN], TEST: shares[TRAIN] + shares[VAL]}
    members: defaultdict[str, set[int]] = defaultdict(set)
    images: Counter[str] = Counter()
    for record, unit in zip(records, units, strict=True):
        members[record.label].add(unit)
        images[record.label] += 1
    moves: Counter[str] = Counter()
    for label, inside in sorted(members.items()):  # sorted, as two classes may share a unit and the first class moves it
        _check_size(label, images[label], len(inside), needed)
        for split in sorted(needed, key=SPLITS.index, reverse=True):
            count = Counter(splits[unit] for unit in inside)
            if count[split]:
                continue
            spare = [unit for unit in inside if count[splits[unit]] > 1 and unit not in held]
            if not spare:
                continue
            low, high = starts[split], starts[split] + shares[split]
            nearest = min(spare, key=lambda unit: (max(low - positions[unit], positions[unit] - high), positions[unit]))
            splits[nearest] = split
            moves[label] += 1
    return moves


def _check_size(label: str, images: int, units: int, needed: Sequence[str]) -> None:
    if units >= len(needed):
        return
    plural = "image" if images == 1 else "images"
    copies = "" if images == units else f" ({units} if copies and groups count once)"
    raise DataError(
        f"class {label!r} has {images} {plural}{copies}; expected at least {len(needed)}, one each for {', '.join(needed)}: "
        f"add images, or leave the class out with --classes"
    )


def _leaks(units: Sequence[int], splits: Sequence[str]) -> Iterable[str]:
    """Yield notes on the number of images in val and test with a copy, or an image of their group, in train."""
    trained = {unit for unit, split in zip(units, splits, strict=True) if split == TRAIN}
    leaking = Counter(split for unit, split in zip(units, splits, strict=True) if split != TRAIN and unit in trained)
    for split in (VAL, TEST):
        if leaking[split]:
            yield (
                f"{leaking[split]:,} {split} images have an exact or near copy, or an image of their group, in train: "
                f"the metrics of {split} are too good, as the network may have memorised these images; cnnkit doctor lists them"
            )
