"""Datasets: the images of a source after selection of classes, scan, checks and split."""

from __future__ import annotations

import copy
import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from cnnkit.config.settings import DataConfig
from cnnkit.data.columns import RecordColumns
from cnnkit.data.image import UndecodableError, image_size
from cnnkit.data.progress import Progress
from cnnkit.data.source import SPLITS, TRAIN, Record, Source, empty_classes
from cnnkit.data.sources.layout import natural_order
from cnnkit.data.split import duplicates
from cnnkit.data.split.duplicates import NO_COPIES, Copies
from cnnkit.data.split.grouping import assign_groups
from cnnkit.data.split.quotas import hash_position
from cnnkit.data.split.split import Sample, SampleColumns, assign_splits
from cnnkit.data.split.split_file import read_pins, split_csv
from cnnkit.data.store.cached_results import remove_oldest
from cnnkit.data.store.scan import Scan, find_scan, reopen_scan, scan
from cnnkit.errors import DataError, closest, listed, shell_path, shell_word
from cnnkit.files import whole_file

if TYPE_CHECKING:
    from cnnkit.model.preprocessing import Preprocessing

MAX_SIZE_SAMPLES = 200  # image headers that are read to estimate the typical size
ROUNDING_TOLERANCE = 1e-9  # a third of 300 images is 100, not 101


@dataclass(frozen=True)
class Dataset:
    """Readable samples with their splits, the classes in the model's order, the store, unreadable images, and notes for the user.

    `bad` holds the path and the reason of every unreadable image. `copies` are pairs of rows of the store.
    """

    samples: SampleColumns
    classes: tuple[str, ...]
    store: Scan
    bad: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    copies: Copies = field(default=NO_COPIES, compare=False, repr=False)

    @cached_property
    def split_csv(self) -> bytes:
        """The content of split.csv."""
        return split_csv(self.samples)

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of all paths, labels, splits and contents, in hex."""
        digest = hashlib.sha256()
        for sample in self.samples:
            text = f"{sample.path}\0{sample.label}\0{sample.split}\0{sample.sha256}\n"
            digest.update(text.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def stored_in(self, store: Scan) -> Dataset:
        """Return the dataset with its images in another `store`; cached properties are kept, since they do not depend on it."""
        other = copy.copy(self)
        object.__setattr__(other, "store", store)
        return other

    def without_samples(self) -> Dataset:
        """Return the dataset without the facts of its images, which take most of its memory; the canvases stay."""
        none = np.empty(0, np.int64)
        store = replace(self.store, facts=self.store.facts.take(none), thumbnails=self.store.thumbnails[:0], looks=self.store.looks[:0])
        return replace(self, samples=self.samples.take(none), bad=(), store=store, copies=NO_COPIES)

    def of(self, split: str) -> SampleColumns:
        """Return the samples of one split, in the order of the source."""
        splits = self.samples.splits
        codes = [code for code, name in enumerate(splits.names) if name == split]
        return self.samples.take(np.flatnonzero(np.isin(splits.codes, codes)))

    def arrays(self, split: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows in the store and the class indices of one split, both int64 (N,)."""
        index = {name: position for position, name in enumerate(self.classes)}
        chosen = self.of(split)
        labels = chosen.records.labels
        numbers = np.array([index.get(name or "", -1) for name in labels.names], np.int64)
        return chosen.rows, numbers[labels.codes]

    def thinned(self, share: float, seed: int) -> Dataset:
        """Return the dataset with only a `share`, in (0, 1], of every class in train, at least one image; val and test stay whole.

        A smaller share is a subset of a larger share. The selection does not depend on the order of the source. Copies and
        images of one group stay together as far as the number of images allows.
        """
        keys = {sample.row: _thinning_key(sample, seed) for sample in self.samples if sample.split == TRAIN}
        kept: set[int] = set()
        for name in self.classes:
            members = sorted((s.row for s in self.samples if s.row in keys and s.label == name), key=keys.__getitem__)
            kept.update(members[: math.ceil(share * len(members) - ROUNDING_TOLERANCE)])
        rows = [row for row, sample in enumerate(self.samples) if sample.row in kept or sample.split != TRAIN]
        return replace(self, samples=self.samples.take(np.array(rows, np.int64)))


def _thinning_key(sample: Sample, seed: int) -> tuple[float, str]:
    """Return the sort key of an image in `Dataset.thinned`."""
    return hash_position(seed, sample.unit), sample.path


def select_classes(source: Source, classes: Sequence[str]) -> tuple[RecordColumns, tuple[str, ...]]:
    """Return the records of `classes` (all classes if empty) and these classes in natural order.

    Raises `DataError` if a class is unknown or fewer than two classes are left.
    """
    records = RecordColumns.of(source.records)
    present = natural_order([name for name in records.labels.present() if name is not None])
    for name in classes:
        if name not in present:
            raise DataError(f"--classes {name}: no such class in {source.name}{closest(name, present)} It has: {listed(present)}")
    chosen = natural_order(list(set(classes))) if classes else present
    if len(chosen) < 2:  # noqa: PLR2004 (a classifier needs two classes)
        if classes:
            raise DataError(f"--classes: one class, {chosen[0]!r}; a classifier needs at least two; {source.name} has: {listed(present)}")
        empty = empty_classes(source)
        folders = f"; the class folders without an image are {listed(map(repr, empty))}" if empty else ""
        raise DataError(f"{source.name} has one class, {chosen[0]!r}; a classifier needs at least two{_nested_classes(source)}{folders}")
    if len(chosen) == len(present):
        return records, tuple(chosen)
    codes = [code for code, name in enumerate(records.labels.names) if name in chosen]
    return records.take(np.flatnonzero(np.isin(records.labels.codes, codes))), tuple(chosen)


def _nested_classes(source: Source) -> str:
    """Return the advice for a source of one class whose folders look like the classes; an empty text if it has none."""
    if not Path(source.name).is_dir():
        return ""
    deep = [record.path.split("/")[:-1] for record in source.records if record.split is None]
    nested = natural_order(list({parts[1] for parts in deep if len(parts) > 1}))
    if len(nested) < 2:  # noqa: PLR2004 (a classifier needs two classes)
        return " class folders"
    return f"; if its folders {listed(nested)} are the classes, type: --data {shell_word(f'{source.name}/{deep[0][0]}')}"


def typical_side(source: Source, records: Sequence[Record]) -> int:
    """Return the median of the shorter sides, in pixels, of up to `MAX_SIZE_SAMPLES` images spread over the source."""
    step = -(-len(records) // MAX_SIZE_SAMPLES)
    lengths: list[int] = []
    first_error = ""
    for record in records[::step]:
        try:
            stored = source.read(record)
            lengths.append(min(image_size(stored) if isinstance(stored, bytes) else stored.shape[:2]))
        except UndecodableError as error:
            first_error = first_error or f"{record.path}: {error}"  # the scan reports the image
    if not lengths:
        raise DataError(
            f"{source.name}: none of the {len(records[::step])} images tried can be read, such as {first_error}; "
            f"all reasons: cnnkit doctor {shell_path(source.name)}"
        )
    return int(np.median(lengths))


def load_dataset(
    source: Source,
    config: DataConfig,
    geometry: Preprocessing | None,
    seed: int,
    progress: Progress | None = None,
    *,
    also: Sequence[Preprocessing] = (),
) -> Dataset:
    """Scan the images that `config` selects, list the unreadable images and assign every other image to a split.

    Without a `geometry` the dataset has no canvases. The scan makes those of the geometries `also` for a later command. Raises
    `DataError` if images are unreadable under ``--on-bad fail``, or if a class is too small or lacks training images.
    """
    records, classes = _select_records(source, config)
    store = scan(source, records, geometry, also=also, cache=config.cache, workers=config.workers, progress=progress)
    return _split_dataset(source, records, classes, store, config, seed)


def find_dataset(source: Source, config: DataConfig, seed: int) -> Dataset | None:
    """Return the dataset that `load_dataset` returns without a geometry if the cache holds its scan, else None. Decode nothing."""
    records, classes = _select_records(source, config)
    store = find_scan(source, records)
    return store and _split_dataset(source, records, classes, store, config, seed)


def with_canvases(dataset: Dataset, geometry: Preprocessing) -> Dataset | None:
    """Return `dataset` if it has canvases, else `dataset` with the canvases of `geometry` in its store; None if the store has none."""
    if dataset.store.canvases is not None:
        return dataset
    store = reopen_scan(dataset.store, geometry)
    return store and dataset.stored_in(store)


def check_class_text(source: Source, classes: Sequence[str]) -> None:
    """Raise `DataError` for a class whose name is not UTF-8, because model files hold names as text."""
    for name in classes:
        stored = name.encode("utf-8", "surrogateescape")
        if stored.decode("utf-8", "replace") != name:
            raise DataError(
                f"{source.name}: the class {stored!r} has a name that is not UTF-8; in Windows-1252 it is "
                f"{stored.decode('cp1252', 'replace')!r}; rename its folder, or leave it out with --classes"
            )


def _select_records(source: Source, config: DataConfig) -> tuple[RecordColumns, tuple[str, ...]]:
    """Return the records and classes that `config` selects; the records have groups."""
    records, classes = select_classes(source, config.classes)
    check_class_text(source, classes)
    records = assign_groups(records, config.group_by)
    _check_split_flag(records, config)
    return records, classes


def _split_dataset(source: Source, records: RecordColumns, classes: tuple[str, ...], store: Scan, config: DataConfig, seed: int) -> Dataset:
    """Leave out the records that are unreadable in `store`, and assign every other record to a split."""
    is_good = store.facts.readable
    bad = tuple((records[row].path, store.facts[row].error) for row in store.bad)
    if bad and config.on_bad == "fail":
        files = listed((f"{path}: {reason}" for path, reason in bad), separator="\n  ")
        raise DataError(f"{source.name}: {len(bad)} of {len(records)} images cannot be read (--on-bad fail):\n  {files}")
    good = np.flatnonzero(is_good)
    _check_classes_left(source, records, store, good, classes)
    kept, hashes = records.take(good), store.facts.hashes.take(good)
    pins, pin_notes = read_pins(config.split_file, kept, hashes) if config.split_file else (None, ())
    copies = near_copies(store)
    kept_copies = copies.among(good, len(records))
    assigned = assign_splits(kept, hashes, config.split, seed, near=kept_copies.pairs, pinned=pins, min_images=config.min_images)
    classes = large_classes(classes, assigned.left_out, config.min_images)
    samples = SampleColumns(kept, assigned.splits, hashes, good, assigned.units).with_split()
    notes = (*source.notes, *pin_notes, *assigned.notes, *kept_copies.crowd_note(assigned.splits), *check_splits(samples, classes))
    return Dataset(samples, classes, store, bad, notes, copies)


def large_classes(classes: Sequence[str], left_out: Sequence[str], min_images: int) -> tuple[str, ...]:
    """Return the classes without those that ``--min-images`` leaves out; raises `DataError` if fewer than two are left."""
    kept = tuple(name for name in classes if name not in left_out)
    if len(kept) < 2:  # noqa: PLR2004 (a classifier needs two classes)
        raise DataError(
            f"--min-images {min_images}: {len(kept)} of {len(classes)} classes have as many images, copies and groups counted once; "
            f"a classifier needs at least two: lower it, or add images"
        )
    return kept


def near_copies(store: Scan) -> Copies:
    """Return the pairs of rows that are copies or look alike; a store on the disk caches them."""
    file = store.folder / f"near-{duplicates.METHOD_VERSION}-{store.fingerprint[:16]}.npz" if store.folder else None
    if file is not None:
        with suppress(OSError, EOFError, ValueError, KeyError, BadZipFile), file.open("rb") as opened:
            found = np.load(opened, allow_pickle=False)
            total = float(found["crowded_total"])
            return Copies(found["pairs"], found["same"], found["alike"], found["crowded"], total)
    # Maps of their own are released after the search. The 292 MB of 60,000 images would else count as memory while the dataset lives.
    mapped = reopen_scan(store) or store
    copies = duplicates.find_copies(mapped.thumbnails, mapped.looks, store.facts)
    if store.folder is not None and file is not None:
        with suppress(OSError):  # a full disk only costs another search
            with whole_file(file) as part, part.open("wb") as opened:
                np.savez(opened, allow_pickle=False, **vars(copies))
            remove_oldest(store.folder, "near-*")
    return copies


def _check_split_flag(records: RecordColumns, config: DataConfig) -> None:
    fixed = set(records.splits.present())
    if config.split != DataConfig().split and {"train", "val"} <= fixed:
        have = ", ".join(split for split in SPLITS if split in fixed)
        raise DataError(f"--split: the data itself has the splits {have}, so there is nothing to split; leave --split out")


def _check_classes_left(source: Source, records: RecordColumns, store: Scan, good: NDArray[np.int64], classes: Sequence[str]) -> None:
    left = set(records.labels.take(good).present())
    for name in classes:
        if name not in left:
            row = next(row for row in store.bad if records[row].label == name)
            raise DataError(
                f"{source.name}: class {name!r} has no readable image, such as {records[row].path}: {store.facts[row].error}; "
                f"repair its files, or leave it out with --classes"
            )


def check_splits(samples: SampleColumns, classes: Sequence[str]) -> list[str]:
    """Return notes on classes without images in val or test; raises `DataError` if a class has none in train."""
    labels, splits = samples.records.labels, samples.splits
    pairs, numbers = np.unique(splits.codes.astype(np.int64) * len(labels.names) + labels.codes, return_counts=True)
    codes = [divmod(pair, len(labels.names)) for pair in pairs.tolist()]
    counts = Counter({(splits.names[split], labels.names[label]): n for (split, label), n in zip(codes, numbers.tolist(), strict=True)})
    notes = []
    for split in SPLITS:
        if not any(counts[split, name] for name in classes):
            continue
        for name in classes:
            if counts[split, name]:
                continue
            if split == TRAIN:
                raise DataError(
                    f"class {name!r} has no image in train, only in other splits: no network can learn it; "
                    f"add training images, or leave it out with --classes"
                )
            notes.append(f"{split} has no image of class {name!r}: metrics of {split} say nothing about this class")
    return notes
