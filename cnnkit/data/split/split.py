"""Assignment of images to train, val and test by quotas per class and hashes of content, which stays stable when images are added.

A unit holds the exact and near copies of an image and the images of its group, and lands in one split. File names, the order of the
images and the time do not matter. `quotas` describes the method.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.source import SPLITS, TEST, TRAIN, VAL, Record
from cnnkit.data.split.quotas import fill_quotas
from cnnkit.data.split.units import NO_PAIRS, name_units, units_per_class
from cnnkit.errors import DataError, listed

MAX_NAMED = 50  # small classes in an error: the user decides about each of them


class Sample(NamedTuple):
    """One readable image with its split and unit: a row of split.csv, with its `row` in the store and its `group` in the source."""

    path: str
    label: str
    split: str
    sha256: str
    row: int
    unit: str
    group: str | None = None


@dataclass(frozen=True)
class SplitAssignment:
    """The split and the unit of every record, the classes left out by ``--min-images``, and notes for the user.

    The records of a class that is left out have the split "".
    """

    splits: list[str]
    units: list[str]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def assign_splits(
    records: Sequence[Record],
    keys: Sequence[str],
    shares: Sequence[float],
    seed: int,
    *,
    near: NDArray[np.int64] = NO_PAIRS,
    pinned: Sequence[str | None] | None = None,
    min_images: int = 0,
) -> SplitAssignment:
    """Return the split of every record: train, val or test.

    `keys` are the SHA-256 of the contents; equal keys mean the same image. `near` (P, 2) are pairs of rows of near copies. Records with a
    split of the source or a `pinned` split keep it, and copies of a pinned image join it. If the source fixes train and test but not
    val, val is taken out of train. If it fixes train and val, there is no test. Classes with fewer than `min_images` units are left out.
    Raises `DataError` if other classes have too few units for the splits, and names all of these classes.
    """
    wanted = _shares_left({record.split for record in records if record.split is not None}, shares)
    units, alike = _find_units(records, keys, near, sum(share > 0 for share in wanted.values()) if wanted else 0)
    number = units_per_class(records, units)
    left_out = tuple(sorted(label for label, its in number.items() if its < min_images))
    splits = [record.split or "" for record in records] if wanted else [record.split or TRAIN for record in records]
    notes: list[str] = []
    chosen = [row for row, record in enumerate(records) if record.label not in left_out]
    if wanted:
        free = [row for row in chosen if records[row].split != TEST]
        held = [pinned[row] if pinned is not None else None for row in free]
        drawn, notes = _draw_splits([records[row] for row in free], [units[row] for row in free], held, wanted, seed)
        for row, split in zip(free, drawn, strict=True):
            splits[row] = split
    splits = ["" if record.label in left_out else split for record, split in zip(records, splits, strict=True)]
    return SplitAssignment(splits, units, left_out, (*_leaving(left_out, number, min_images), *alike, *notes, *_leaks(units, splits)))


def _shares_left(fixed: set[str], shares: Sequence[float]) -> dict[str, float]:
    """Return the shares of the splits to draw, given the splits that the source has `fixed`; nothing if it has val."""
    if VAL in fixed:
        return {}
    wanted: dict[str, float] = dict(zip(SPLITS, (*shares, 0.0), strict=False))
    if TEST not in fixed:
        return wanted
    total = wanted[TRAIN] + wanted[VAL]
    return {TRAIN: wanted[TRAIN] / total, VAL: wanted[VAL] / total, TEST: 0.0}


def _find_units(records: Sequence[Record], keys: Sequence[str], near: NDArray[np.int64], needed: int) -> tuple[list[str], list[str]]:
    """Return the unit of every record (N,), and a note on classes whose images are too similar for the detection of near copies.

    Examples are parts on a conveyor and frames of a still camera. With near copies in one unit, such a class could not be split.
    """
    units = name_units(records, keys, near)
    together = units_per_class(records, units)
    if not len(near) or min(together.values()) >= needed:
        return units, []
    apart = units_per_class(records, name_units(records, keys))
    crowded = {label for label, number in together.items() if number < needed <= apart[label]}
    if not crowded:
        return units, []
    kept = [records[one].label not in crowded and records[other].label not in crowded for one, other in near.tolist()]
    note = (
        f"nearly all images of {listed(sorted(crowded))} are alike, so their near copies are not kept in one split; "
        f"if they come from few scenes, name the scenes with --group-by"
    )
    return name_units(records, keys, near[np.array(kept)]), [note]


def _draw_splits(
    records: Sequence[Record], units: Sequence[str], pinned: Sequence[str | None], shares: Mapping[str, float], seed: int
) -> tuple[list[str], list[str]]:
    """Return the split of every record, drawn by unit, and notes. A pinned record has its own split, whatever its unit has."""
    _check_sizes(records, units, pinned, [split for split in SPLITS if shares[split] > 0])
    held, notes = _pinned_units(units, pinned)
    drawn, moved = fill_quotas([record.label for record in records], units, shares, seed, held)
    if moved:
        notes.append(
            f"large groups or sets of copies left a split without an image of {listed(sorted(moved))}; "
            f"the smallest of them were moved there, and the shares of these classes differ from --split"
        )
    return [pin or drawn[unit] for unit, pin in zip(units, pinned, strict=True)], notes


def _pinned_units(units: Sequence[str], pinned: Sequence[str | None]) -> tuple[dict[str, str], list[str]]:
    """Return the split of most pinned images of every unit with pins, and a note on units with pins to several splits."""
    pins: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for unit, split in zip(units, pinned, strict=True):
        if split is not None:
            pins[unit][split] += 1
    held = {unit: min(counts, key=lambda split: (-counts[split], SPLITS.index(split))) for unit, counts in pins.items()}
    torn = sum(len(counts) > 1 for counts in pins.values())
    note = f"--split-file has images of {torn:,} units (copies, or images of one group) in several splits; every image stays where it was"
    return held, [note] if torn else []


def _check_sizes(records: Sequence[Record], units: Sequence[str], pinned: Sequence[str | None], needed: Sequence[str]) -> None:
    """Raise `DataError` that names every class with fewer units than splits, unless all images of the class are pinned."""
    images = Counter(record.label for record in records)
    number = units_per_class(records, units)
    free = {record.label for record, pin in zip(records, pinned, strict=True) if pin is None}
    small = sorted(label for label, its in number.items() if its < len(needed) and label in free)
    if not small:
        return
    names = [
        f"{label!r} ({images[label]} {'image' if images[label] == 1 else 'images'}"
        + ("" if images[label] == number[label] else f", {number[label]} if copies and groups count once")
        + ")"
        for label in small
    ]
    verb = "class has" if len(small) == 1 else "classes have"
    fewer = ", or use two splits with --split 0.8/0.2" if len(needed) == len(SPLITS) else ""
    raise DataError(
        f"{len(small)} {verb} too few images for {', '.join(needed)}: {listed(names, MAX_NAMED)}; "
        f"add images, leave such classes out with --min-images {len(needed)}{fewer}"
    )


def _leaving(left_out: Sequence[str], number: Mapping[str, int], min_images: int) -> Iterable[str]:
    """Yield a note on the classes that ``--min-images`` leaves out."""
    if left_out:
        names = listed(f"{label} ({number[label]})" for label in left_out)
        yield f"--min-images {min_images} leaves out {len(left_out)} of {len(number)} classes, copies and groups counted once: {names}"


def _leaks(units: Sequence[str], splits: Sequence[str]) -> Iterable[str]:
    """Yield notes on the number of images in val and test with a copy, or an image of their group, in train."""
    trained = {unit for unit, split in zip(units, splits, strict=True) if split == TRAIN}
    leaking = Counter(split for unit, split in zip(units, splits, strict=True) if split != TRAIN and unit in trained)
    for split in (VAL, TEST):
        if leaking[split]:
            yield (
                f"{leaking[split]:,} {split} images have an exact or near copy, or an image of their group, in train: "
                f"the metrics of {split} are too good, as the network may have memorised these images; cnnkit doctor lists them"
            )
