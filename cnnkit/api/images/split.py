"""The split of images into train, val and test without a training: split.csv as a file of its own."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cnnkit.config.settings import DataConfig
from cnnkit.data.dataset import check_class_text, check_splits, large_classes, load_dataset, select_classes
from cnnkit.data.default_geometry import default_geometries
from cnnkit.data.exclusion import leave_out
from cnnkit.data.progress import Progress
from cnnkit.data.source import SPLITS, Source, open_source
from cnnkit.data.split.grouping import assign_groups
from cnnkit.data.split.split import SampleColumns, assign_splits
from cnnkit.data.split.split_file import COLUMNS, read_pins, split_rows
from cnnkit.data.store.index import HASH_BYTES, HashColumns
from cnnkit.doctor.scan_notes import name_notes, scan_notes
from cnnkit.files import check_writable, write_csv


@dataclass(frozen=True, repr=False)
class Division:
    """A split: the `samples`, their `counts` by class and split, the unreadable images with their errors, notes, and the file."""

    samples: SampleColumns
    counts: dict[str, dict[str, int]]
    bad: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    path: Path

    def __repr__(self) -> str:
        total = Counter(self.samples.splits)
        numbers = ", ".join(f"{total[split]:,} {split}" for split in SPLITS)
        return f"Division({str(self.path)!r}, {len(self.counts)} classes: {numbers}, {len(self.bad)} unreadable)"


def divide(
    config: DataConfig,
    *,
    out: str | Path = "split.csv",
    seed: int = 0,
    by: Literal["content", "path"] = "content",
    progress: Progress | None = None,
) -> Division:
    """Split the images of ``config.data`` like `cnnkit train`, and write ``path,label,split,sha256,unit`` to `out`.

    With `by` ``path`` no image is opened. This takes seconds for a million rows, but finds no copies and counts unreadable files.
    Raises the same `DataError` as `cnnkit.data.dataset.load_dataset`, and `ConfigError` if `out` cannot be written.
    """
    path = Path(out)
    check_writable(path.parent)
    source = open_source(config.data, download=config.download, group_by=config.group_by, progress=progress)
    source = leave_out(source, config.exclude)
    bad: tuple[tuple[str, str], ...] = ()
    if by == "content":
        dataset = load_dataset(source, config, None, seed, progress, also=default_geometries(source, source.records))
        samples, classes, bad = dataset.samples, dataset.classes, dataset.bad
        notes = (*dataset.notes, *scan_notes(source, dataset, config.classes))
    else:
        samples, classes, notes = _by_path(source, config, seed)
    write_csv(path, COLUMNS, split_rows(samples))
    counts = Counter((sample.label, sample.split) for sample in samples)
    table = {name: {split: counts[name, split] for split in SPLITS} for name in classes}
    return Division(samples, table, bad, notes, path)


def _by_path(source: Source, config: DataConfig, seed: int) -> tuple[SampleColumns, tuple[str, ...], tuple[str, ...]]:
    """Return the samples, classes and notes of a split by the hashes of paths instead of contents."""
    records, classes = select_classes(source, config.classes)
    check_class_text(source, classes)
    records = assign_groups(records, config.group_by)
    pins, pin_notes = read_pins(config.split_file, records, [""] * len(records)) if config.split_file else (None, ())
    keys = HashColumns.of(hashlib.sha256(path).digest() for path in records.paths.all_stored())
    assigned = assign_splits(records, keys, config.split, seed, pinned=pins, min_images=config.min_images)
    classes = large_classes(classes, assigned.left_out, config.min_images)
    none = HashColumns.of([bytes(HASH_BYTES)]).take(np.zeros(len(records), np.int64))  # contents are not known
    samples = SampleColumns(records, assigned.splits, none, np.arange(len(records)), assigned.units).with_split()
    warning = "no image was opened, so copies may be in several splits, and unreadable files are counted"
    names = name_notes(source, records, config.classes)
    return samples, classes, (*source.notes, warning, *pin_notes, *assigned.notes, *names, *check_splits(samples, classes))
