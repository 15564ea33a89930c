"""The labelled images that a model is measured on: one split of its own run, or of other data with the same classes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cnnkit.data.source import SPLITS, TEST, TRAIN, VAL, Record, Source, open_source
from cnnkit.data.sources.layout import natural_order
from cnnkit.errors import DataError, closest, listed
from cnnkit.run_dir import RunDir, RunRecord


@dataclass(frozen=True)
class Samples:
    """Records of one split.

    `scope` is everything the split was drawn from, whose store may exist already; `hashes` are the SHA-256 the records
    had when the split was made, and `trained` the images that the run trained on (both empty for other data).
    """

    source: Source
    split: str
    records: tuple[Record, ...]
    scope: tuple[Record, ...]
    hashes: dict[str, str]
    trained: tuple[Record, ...] = ()


def evaluated_split(rows: Iterable[Mapping[str, str]]) -> str:
    """Return the split that is evaluated unless another is named, by the `rows` of split.csv: test, or val if there is no test."""
    return TEST if any(row["split"] == TEST for row in rows) else VAL


def run_samples(run: RunDir, split: str | None, only: Sequence[str] = ()) -> Samples:
    """Return the samples of `split` of the run's own data; left out: test, or val if there is no test.

    With `only`, those of these classes. Raises `DataError` if the split is empty, its images are gone or `only` names a class that
    the run does not have, `ModelFileError` if the run is damaged.
    """
    recorded = run.read_record()
    rows = run.read_split()
    chosen = split or evaluated_split(rows)
    wanted = {row["path"]: row for row in rows if row["split"] == chosen}
    _check_only(only, recorded.classes, str(run.path))
    if only and wanted:
        wanted = {path: row for path, row in wanted.items() if row["label"] in only}
        if not wanted:
            raise DataError(f"--classes {','.join(only)}: {run.path} has no {chosen} image of it; leave --classes out for all classes")
    if not wanted:
        have = ", ".join(name for name in SPLITS if any(row["split"] == name for row in rows))
        raise DataError(f"--split {chosen}: {run.path} has no {chosen} images; it has {have}")
    source, scope = run_source(run, recorded)
    records = tuple(record for record in scope if record.path in wanted)
    if len(records) < len(wanted):
        lost = sorted(wanted.keys() - {record.path for record in records})
        gone = f"{len(lost)} of {len(wanted)} {chosen} images are gone, such as {lost[0]}"
        raise DataError(f"{source.name}: {gone}; restore them, or name other data with --data")
    learned = {row["path"] for row in rows if row["split"] == TRAIN}
    trained = tuple(record for record in scope if record.path in learned)
    return Samples(source, chosen, records, scope, {path: row["sha256"] for path, row in wanted.items()}, trained)


def run_source(run: RunDir, record: RunRecord) -> tuple[Source, tuple[Record, ...]]:
    """Return the source that `run` was made from, by its `record`, and its images of the run's classes: those of the run's store.

    Raises `DataError` if the source is not where it was.
    """
    try:
        source = open_source(record.data.location)
    except DataError as error:
        raise DataError(
            f"the images that {run.path} was made from are not where they were ({error}); name the folder with --data"
        ) from None
    classes = set(record.classes)
    return source, tuple(image for image in source.records if image.label in classes)


def other_samples(data: str, split: str | None, classes: Sequence[str], only: Sequence[str] = ()) -> Samples:
    """Return the samples of other data for a model of `classes`: `split`, or by itself test, val or everything; with `only` those.

    Raises `DataError` if the split is missing or the data has classes the model does not know (both lists given, and what to add to
    the command to evaluate those in both).
    """
    source = open_source(data)
    present = {record.split for record in source.records}
    chosen = split or next((name for name in (TEST, VAL) if name in present), None)
    if split and split not in present:
        have = ", ".join(name for name in SPLITS if name in present) or "none: its class folders are evaluated as a whole"
        raise DataError(f"--split {split}: {source.name} has no folder of that name; it has {have}")
    records = tuple(record for record in source.records if chosen is None or record.split == chosen)
    labels = natural_order(list({record.label for record in records}))
    _check_only(only, labels, source.name)
    strange = [name for name in only or labels if name not in classes]
    if strange:
        common = [name for name in labels if name in classes]
        offer = (
            f"in both: {listed(common)}; to evaluate these alone, add --classes {shlex.quote(','.join(common))}"
            if common
            else "no class is in both, so nothing can be measured: name the folders as the model's classes are named"
        )
        raise DataError(f"{source.name} has classes the model does not know: {listed(strange)}; the model's: {listed(classes)}; {offer}")
    records = tuple(record for record in records if not only or record.label in only)
    return Samples(source, chosen or ("all" if TRAIN not in present else TRAIN), records, records, {})


def _check_only(only: Sequence[str], classes: Sequence[str], where: str) -> None:
    for name in only:
        if name not in classes:
            raise DataError(f"--classes {name}: no such class in {where}{closest(name, classes)} It has: {listed(classes)}")
