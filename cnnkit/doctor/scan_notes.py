"""Notes of `train` and `split` on findings of the scan that spoil the metrics of a training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from cnnkit.data.columns import RecordColumns
from cnnkit.data.dataset import Dataset
from cnnkit.data.source import Record, Source, empty_classes
from cnnkit.data.split.duplicates import NO_COPIES
from cnnkit.data.store.cached_results import cached_result
from cnnkit.data.store.facts import THUMBNAIL_SIZE, Facts
from cnnkit.data.store.index import FactColumns
from cnnkit.data.store.store import rows_of
from cnnkit.doctor.evidence import Evidence
from cnnkit.doctor.examine import examine_for_training

NOTES_VERSION = 4  # raise it when the checks change, so that cached notes are not used


def scan_notes(source: Source, dataset: Dataset, classes: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the messages of the findings on `dataset` that spoil metrics; a store on the disk caches them.

    With `classes`, the selection of ``--classes``, no class folder that the selection leaves out is mentioned.
    """
    empty = {} if classes else empty_classes(source)
    groups = "\0".join(group or "" for group in dataset.samples.records.groups)
    key = (NOTES_VERSION, dataset.fingerprint, hashlib.sha256(groups.encode("utf-8", "surrogateescape")).hexdigest(), sorted(empty.items()))

    def compute() -> dict[str, list[str]]:
        rows, records = dataset.samples.rows, dataset.samples.records
        evidence = Evidence(
            RecordColumns(records.paths, records.labels, None, records.groups),
            dataset.store.facts.take(rows),
            rows_of(dataset.store.thumbnails, rows),
            dataset.copies.among(rows, len(dataset.store.facts)),
            empty_classes=empty,
            splits=dataset.samples.splits,
        )
        return {"notes": [finding.message for finding in examine_for_training(evidence)]}

    return tuple(cached_result(dataset.store.folder, "scan-notes", key, compute)["notes"])


def name_notes(source: Source, records: Sequence[Record], classes: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the messages of the findings that spoil metrics and need the names of `records` alone."""
    thumbnails = np.broadcast_to(np.uint8(0), (len(records), THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3))
    empty = {} if classes else empty_classes(source)
    facts = FactColumns.of([Facts()]).take(np.zeros(len(records), np.int64))
    evidence = Evidence(RecordColumns.of(records), facts, thumbnails, NO_COPIES, empty_classes=empty)
    return tuple(finding.message for finding in examine_for_training(evidence, names_only=True))
