"""The labelled images on which a model is measured: one split of its own run, or of other data with the same classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cnnkit.config.passwords import HiddenPasswordError
from cnnkit.data.exclusion import leave_out
from cnnkit.data.progress import Progress
from cnnkit.data.shards.named_addresses import check_named
from cnnkit.data.shards.remote import UnreachableError
from cnnkit.data.source import SPLITS, TEST, TRAIN, VAL, Record, Source, one_form, open_source
from cnnkit.data.sources.arrays import is_memory_name
from cnnkit.data.sources.layout import natural_order
from cnnkit.errors import DataError, closest, listed, shell_word
from cnnkit.run_dir import RunDir, RunRecord


@dataclass(frozen=True)
class Samples:
    """Records of one split.

    `scope` holds all records from which the split was drawn; a store of them may exist already. `hashes` holds the SHA-256 of the
    records at the time of the split, `units` the names of their units, and `trained` the records on which the run trained. All are
    empty for other data. `majority_class` is the most frequent class of the training images, None if these are unknown.
    """

    source: Source
    split: str
    records: tuple[Record, ...]
    scope: tuple[Record, ...]
    hashes: dict[str, str]
    trained: tuple[Record, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict[str, str])
    majority_class: str | None = None


def evaluated_split(rows: Iterable[Mapping[str, str]]) -> str:
    """Return the default split of an evaluation, by the `rows` of split.csv: test, or val if no row is of test."""
    return TEST if any(row["split"] == TEST for row in rows) else VAL


def run_samples(
    run: RunDir, split: str | None, only: Sequence[str] = (), *, own: Source | None = None, progress: Progress | None = None
) -> Samples:
    """Return the samples of `split` of the run's own data; None means test, or val if the run has no test images.

    `own` is the source of the run if it is in memory. `only` restricts the samples to those classes. Raises `DataError` if the split is
    empty, if its images are not found, or if `only` names an unknown class. Raises `ModelFileError` if the run is damaged.
    """
    recorded = run.read_record()
    rows = run.read_split()
    chosen = split or evaluated_split(rows)
    wanted = {row["path"]: row for row in rows if row["split"] == chosen}
    only = spelled(only, recorded.classes)
    check_only(only, recorded.classes, str(run.path))
    if only and wanted:
        wanted = {path: row for path, row in wanted.items() if row["label"] in only}
        if not wanted:
            raise DataError(
                f"--classes {','.join(only)}: {run.path} has no {chosen} images of these classes; leave out --classes for all classes"
            )
    if not wanted:
        have = ", ".join(name for name in SPLITS if any(row["split"] == name for row in rows))
        raise DataError(f"--split {chosen}: {run.path} has no {chosen} images; it has {have}")
    source, scope = run_source(run, recorded, own, progress)
    wanted = {one_form(path): row for path, row in wanted.items()}
    records = tuple(record for record in scope if one_form(record.path) in wanted)
    if len(records) < len(wanted):
        missing = sorted(wanted.keys() - {one_form(record.path) for record in records})
        count = f"{len(missing)} of {len(wanted)} {chosen} images are missing, such as {missing[0]}"
        raise DataError(f"{source.name}: {count}; restore them, or name other data with --data")
    train_paths = {one_form(row["path"]) for row in rows if row["split"] == TRAIN}
    trained = tuple(record for record in scope if one_form(record.path) in train_paths)
    hashes = {record.path: wanted[one_form(record.path)]["sha256"] for record in records}
    units = {record.path: unit_of_row(wanted[one_form(record.path)]) for record in records}
    return Samples(
        source, chosen, records, scope, hashes, trained, units, most_frequent(row["label"] for row in rows if row["split"] == TRAIN)
    )


def spread(records: Sequence[Record], most: int) -> Sequence[Record]:
    """Return at most `most` of `records`, evenly spread from the first to the last."""
    rows = np.linspace(0, len(records) - 1, min(most, len(records))).round().astype(np.int64)
    return [records[row] for row in rows]


def unit_of_row(row: Mapping[str, str]) -> str:
    """Return the unit of a row of split.csv; runs of older versions record only the content, which tells exact copies."""
    return row.get("unit") or row["sha256"]


def most_frequent(labels: Iterable[str]) -> str | None:
    """Return the most frequent of `labels`, the first by name of equally frequent ones; None without a label."""
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label)) if counts else None


def run_source(
    run: RunDir, record: RunRecord, own: Source | None = None, progress: Progress | None = None
) -> tuple[Source, tuple[Record, ...]]:
    """Return the source on which `run` trained, and its images of the run's classes: the images of the run's store.

    `record` is the record of `run`, `own` its source if it is in memory. Raises `DataError` if the source is not found, or if it is an
    address that the user has not named.
    """
    if own is None:
        check_named(record.data.location, run.path)
    if own is None and is_memory_name(record.data.location):
        raise DataError(
            f"the images of {run.path} were given in memory, as {Path(record.data.location).name}; give them again: "
            f"cnnkit.evaluate({str(run.path)!r}, images=..., labels=...), after a training evaluate result.model, "
            f"or name labelled images with --data"
        )
    try:
        source = leave_out(open_source(record.data.location, progress=progress) if own is None else own, record.config.data.exclude)
    except (UnreachableError, HiddenPasswordError):
        raise
    except DataError as error:
        raise DataError(f"the images of {run.path} are not at their recorded location ({error}); name their folder with --data") from None
    classes = set(record.classes)
    return source, tuple(image for image in labelled(source.records, record.classes) if image.label in classes)


def other_samples(data: str, split: str | None, classes: Sequence[str], only: Sequence[str] = ()) -> Samples:
    """Return the samples of other data for a model of `classes`; a `split` of None means test, else val, else all images.

    `only` restricts the samples to those classes. Raises `DataError` if the split is missing or if the data has classes that the
    model does not have. That error lists the classes of both and the flag that evaluates their common classes.
    """
    return samples_of(open_source(data), split, classes, only)


def samples_of(source: Source, split: str | None, classes: Sequence[str], only: Sequence[str] = ()) -> Samples:
    """Return the samples of a `source` that is not the run's own, as `other_samples` does."""
    present = {record.split for record in source.records}
    chosen = split or next((name for name in (TEST, VAL) if name in present), None)
    if split and split not in present:
        have = ", ".join(name for name in SPLITS if name in present) or "none: its class folders are evaluated as a whole"
        raise DataError(f"--split {split}: {source.name} has no folder named {split}; it has {have}")
    only = spelled(only, classes)
    records = tuple(record for record in labelled(source.records, classes) if chosen is None or record.split == chosen)
    labels = natural_order(list({record.label for record in records}))
    check_only(only, labels, source.name)
    unknown = [name for name in only or labels if name not in classes]
    if unknown:
        common = [name for name in labels if name in classes]
        remedy = (
            f"both have: {listed(common)}; to evaluate these classes alone, add --classes {shell_word(','.join(common))}"
            if common
            else "they share no class, so nothing can be measured; give the class folders the names of the model's classes"
        )
        raise DataError(
            f"{source.name} has classes that the model does not have: {listed(unknown)}; the model has: {listed(classes)}; {remedy}"
        )
    records = tuple(record for record in records if not only or record.label in only)
    return Samples(source, chosen or ("all" if TRAIN not in present else TRAIN), records, records, {})


def spelled(names: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    """Return `names` as the `classes` of a model write them: an old model may have names in the decomposed form of Unicode."""
    spelling = {one_form(name): name for name in classes}
    return tuple(spelling.get(one_form(name), name) for name in names)


def labelled(records: Sequence[Record], classes: Sequence[str]) -> Sequence[Record]:
    """Return `records` with labels as the `classes` of a model write them."""
    if all(one_form(name) == name for name in classes):
        return records
    labels = list({record.label for record in records})
    spelling = dict(zip(labels, spelled(labels, classes), strict=True))
    return [record._replace(label=spelling[record.label]) for record in records]


def check_only(only: Sequence[str], classes: Sequence[str], owner: str) -> None:
    """Raise `DataError` if a class of `only` is not one of the `classes` of `owner`, a run or a source."""
    for name in only:
        if name not in classes:
            raise DataError(f"--classes {name}: no such class in {owner}{closest(name, classes)} It has: {listed(classes)}")
