"""The colour baseline: a linear model of the colours of the training images, tested on the images of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.inference.samples import Samples
from cnnkit.api.inference.split_predictions import SplitPredictions
from cnnkit.data.image import UndecodableError
from cnnkit.data.source import TRAIN, Record, Source
from cnnkit.data.store.facts import THUMBNAIL_SIZE, decode, measure
from cnnkit.data.store.scan import find_scan
from cnnkit.data.store.store import Mapped
from cnnkit.metrics.baselines import COLOUR_BASELINE, Baseline, baseline
from cnnkit.metrics.colour import colour_predictions, spread_sample
from cnnkit.metrics.units import Units
from cnnkit.model.preprocessing import DRAFT_SIDE


@dataclass(frozen=True, eq=False)
class _Thumbnails:
    """Thumbnails of the readable images, uint8 (N, T, T, 3), and the row of each image by its path."""

    rows: dict[str, int]
    thumbnails: Mapped

    def select(self, records: Sequence[Record]) -> tuple[list[Record], NDArray[np.uint8]]:
        """Return the readable records among `records`, with their thumbnails."""
        readable = [record for record in records if record.path in self.rows]
        return readable, self.thumbnails[[self.rows[record.path] for record in readable]]


def colour_baseline(
    samples: Samples,
    predictions: SplitPredictions,
    classes: Sequence[str],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    units: Units | None = None,
) -> Baseline | None:
    """Compare the model with a linear model of colours (`cnnkit.metrics.colour`), on images with `labels` (N,).

    The comparison counts `units`. `predicted` (N,) are the class indices that the model predicts. The colour model learns
    from the thumbnails of the store. Returns None for the train split, if no training image is left, or if no thumbnails exist for an
    exported file.
    """
    if samples.split == TRAIN or not samples.trained:
        return None
    sample = [samples.trained[row] for row in spread_sample([record.label for record in samples.trained])]
    known = _find_thumbnails(samples, predictions)
    if known is None:
        return None
    test_records, test_thumbnails = known.select(predictions.records)
    if len(test_records) < len(predictions.records):
        return None
    train_records, train_thumbnails = known.select(sample)
    if not train_records and sample:  # the store of the training is gone; the sample is small enough to decode it here
        train_records, train_thumbnails = _decode_thumbnails(samples.source, sample)
    if not train_records:
        return None
    index = {name: number for number, name in enumerate(classes)}
    train_labels = np.array([index[record.label] for record in train_records], np.int64)
    by_colour = colour_predictions(train_thumbnails, train_labels, test_thumbnails)
    summary = f"colours alone ({len(train_records):,} training images)"
    return baseline(COLOUR_BASELINE, summary, by_colour == labels, predicted == labels, len(train_records), units)


def _find_thumbnails(samples: Samples, predictions: SplitPredictions) -> _Thumbnails | None:
    """Return the thumbnails of the scan behind `predictions`, else those of a stored scan; None without a scan."""
    if predictions.seen is not None:
        return _index(predictions.scope, predictions.seen.thumbnails, (~predictions.seen.facts.readable).tolist())
    found = find_scan(samples.source, samples.scope)
    return _index(samples.scope, found.thumbnails, (~found.facts.readable).tolist()) if found else None


def _decode_thumbnails(source: Source, records: Sequence[Record]) -> tuple[list[Record], NDArray[np.uint8]]:
    """Decode a few records in this process, as worker processes take longer to start; return the readable ones with thumbnails."""
    readable: list[Record] = []
    thumbnails: list[NDArray[np.uint8]] = []
    for record in records:
        with suppress(UndecodableError):
            thumbnails.append(measure([decode(source.read(record), DRAFT_SIDE)])[1])
            readable.append(record)
    return readable, np.concatenate(thumbnails) if thumbnails else np.empty((0, THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3), np.uint8)


def _index(records: Sequence[Record], thumbnails: Mapped, broken: Sequence[bool]) -> _Thumbnails:
    rows = {record.path: row for row, (record, is_broken) in enumerate(zip(records, broken, strict=True)) if not is_broken}
    return _Thumbnails(rows, thumbnails)
