"""Assignment of images to train, val and test by quotas per class and hashes of content, which stays stable when images are added.

A unit holds the exact and near copies of an image and the images of its group, and lands in one split. File names, the order of the
images and the time do not matter. `quotas` describes the method.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.columns import Codes, Columns, RecordColumns, Rows
from cnnkit.data.source import SPLITS, TEST, TRAIN, VAL, Record
from cnnkit.data.split.quotas import NO_SPLIT, Splits, fill_quotas
from cnnkit.data.split.units import NO_PAIRS, Units, name_units, units_per_class, units_per_label
from cnnkit.data.store.index import HashColumns
from cnnkit.errors import DataError, counted, listed

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


class SampleColumns(Columns[Sample]):
    """Samples in columns: their `records`, `splits`, `hashes` and `units`, and the `rows` (N,) in the store."""

    def __init__(self, records: RecordColumns, splits: Codes, hashes: HashColumns, rows: Rows, units: Units) -> None:
        self.records, self.splits, self.hashes, self.rows, self.units = records, splits, hashes, rows, units

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Rows) -> SampleColumns:
        """Return the samples of the `rows` (n,)."""
        return SampleColumns(
            self.records.take(rows), self.splits.take(rows), self.hashes.take(rows), self.rows[rows], self.units.take(rows)
        )

    def with_split(self) -> SampleColumns:
        """Return the samples that have a split: those of classes that ``--min-images`` leaves out have none."""
        codes = [code for code, name in enumerate(self.splits.names) if not name]
        is_out = np.isin(self.splits.codes, codes)
        return self.take(np.flatnonzero(~is_out)) if is_out.any() else self

    def block(self, start: int, stop: int) -> Iterator[Sample]:
        """Return the samples from `start` to `stop`."""
        columns = [list(column.block(start, stop)) for column in (self.records, self.splits, self.hashes, self.units)]
        for record, split, content, unit, row in zip(*columns, self.rows[start:stop].tolist(), strict=True):
            yield Sample(record.path, record.label, split or "", content, row, unit, record.group)


@dataclass(frozen=True)
class SplitAssignment:
    """The split and the unit of every record, the classes left out by ``--min-images``, and notes for the user.

    The records of a class that is left out have the split "".
    """

    splits: Codes
    units: Units
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
    columns = RecordColumns.of(records)
    wanted = _shares_left({split for split in columns.splits.present() if split is not None}, shares)
    units, alike = _find_units(columns, keys, near, sum(share > 0 for share in wanted.values()) if wanted else 0)
    number = units_per_class(columns, units)
    left_out = tuple(sorted(label for label, its in number.items() if its < min_images))
    splits = _numbers(columns.splits)
    notes: list[str] = []
    is_out = np.isin(columns.labels.codes, [code for code, label in enumerate(columns.labels.names) if label in left_out])
    if wanted:
        free = np.flatnonzero(~is_out & (splits != SPLITS.index(TEST)))
        held = np.full(len(free), NO_SPLIT, np.int8) if pinned is None else _numbers(Codes.of(pinned).take(free))
        splits[free], notes = _draw_splits(columns.labels.take(free), units.take(free), held, wanted, seed)
    else:
        splits[splits == NO_SPLIT] = SPLITS.index(TRAIN)
    splits[is_out] = NO_SPLIT
    found = Codes(splits + 1, ("", *SPLITS))
    return SplitAssignment(found, units, left_out, (*_leaving(left_out, number, min_images), *alike, *notes, *_leaks(units, splits)))


def _numbers(splits: Codes) -> Splits:
    """Return the number of each split, `NO_SPLIT` for None."""
    numbers = [SPLITS.index(split) if split is not None else NO_SPLIT for split in splits.names]
    return np.array(numbers, np.int8)[splits.codes] if len(splits) else np.empty(0, np.int8)


def _shares_left(fixed: set[str], shares: Sequence[float]) -> dict[str, float]:
    """Return the shares of the splits to draw, given the splits that the source has `fixed`; nothing if it has val."""
    if VAL in fixed:
        return {}
    wanted: dict[str, float] = dict(zip(SPLITS, (*shares, 0.0), strict=False))
    if TEST not in fixed:
        return wanted
    total = wanted[TRAIN] + wanted[VAL]
    return {TRAIN: wanted[TRAIN] / total, VAL: wanted[VAL] / total, TEST: 0.0}


def _find_units(records: RecordColumns, keys: Sequence[str], near: NDArray[np.int64], needed: int) -> tuple[Units, list[str]]:
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
    is_crowded = np.array([label in crowded for label in records.labels.names])[records.labels.codes]
    note = (
        f"nearly all images of {listed(sorted(crowded))} are alike, so their near copies are not kept in one split; "
        f"if they come from few scenes, name the scenes with --group-by"
    )
    return name_units(records, keys, near[~is_crowded[near].any(axis=1)]), [note]


def _draw_splits(labels: Codes, units: Units, pinned: Splits, shares: Mapping[str, float], seed: int) -> tuple[Splits, list[str]]:
    """Return the split of every record, drawn by unit, and notes. A pinned record has its own split, whatever its unit has."""
    _check_sizes(labels, units, pinned, [split for split in SPLITS if shares[split] > 0])
    held, notes = _pinned_units(units, pinned)
    drawn, moved = fill_quotas(labels, units, shares, seed, held)
    if moved:
        notes.append(
            f"large groups or sets of copies left a split without an image of {listed(sorted(moved))}; "
            f"the smallest of them were moved there, and the shares of these classes differ from --split"
        )
    return np.where(pinned == NO_SPLIT, drawn[units.ids], pinned).astype(np.int8), notes


def _pinned_units(units: Units, pinned: Splits) -> tuple[Splits, list[str]]:
    """Return the split of most pinned images of every unit (U,), and a note on units with pins to several splits."""
    held = np.full(len(units.names), NO_SPLIT, np.int8)
    rows = np.flatnonzero(pinned != NO_SPLIT)
    if not len(rows):
        return held, []
    pins = np.zeros((len(units.names), len(SPLITS)), np.int64)
    np.add.at(pins, (units.ids[rows], pinned[rows]), 1)
    is_pinned = pins.any(axis=1)
    held[is_pinned] = pins[is_pinned].argmax(axis=1)  # the first of equal ones, in the order of SPLITS
    torn = int(((pins > 0).sum(axis=1) > 1).sum())
    divided = counted(torn, "unit")
    note = f"--split-file has images of {divided} (copies, or images of one group) in several splits; every image stays where it was"
    return held, [note] if torn else []


def _check_sizes(labels: Codes, units: Units, pinned: Splits, needed: Sequence[str]) -> None:
    """Raise `DataError` that names every class with fewer units than splits, unless all images of the class are pinned."""
    counts = np.bincount(labels.codes, minlength=len(labels.names)).tolist()
    images = {label or "": count for label, count in zip(labels.names, counts, strict=True) if count}
    number = units_per_label(labels, units)
    free = set(labels.take(np.flatnonzero(pinned == NO_SPLIT)).present())
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


def _leaks(units: Units, splits: Splits) -> Iterable[str]:
    """Yield notes on the number of images in val and test with a copy, or an image of the same group, in train."""
    is_trained = np.zeros(len(units.names), np.bool_)
    is_trained[units.ids[splits == SPLITS.index(TRAIN)]] = True
    for split in (VAL, TEST):
        leaking = int(is_trained[units.ids[splits == SPLITS.index(split)]].sum())
        if leaking:
            have = counted(leaking, f"{split} image has", f"{split} images have")
            yield (
                f"{have} an exact or near copy, or an image of the same group, in train: "
                f"the metrics of {split} are too good, as the network may have memorised these images; cnnkit doctor lists them"
            )
