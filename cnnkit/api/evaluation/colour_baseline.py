"""The colour baseline: a linear model on the colours of the run's training images, tested on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.inference.samples import Samples
from cnnkit.api.inference.split_predictions import Answers
from cnnkit.data.image import UndecodableError
from cnnkit.data.source import TRAIN, Record, Source
from cnnkit.data.store.facts import THUMBNAIL_SIZE, decode, measure
from cnnkit.data.store.scan import find_scan
from cnnkit.metrics.baselines import COLOUR_BASELINE, Baseline, baseline
from cnnkit.metrics.colour import colour_predictions, spread_sample


@dataclass(frozen=True, eq=False)
class _Seen:
    """Readable images by path: thumbnails uint8 (N, T, T, 3)."""

    rows: dict[str, int]
    thumbnails: NDArray[np.uint8]

    def of(self, records: Sequence[Record]) -> tuple[list[Record], NDArray[np.uint8]]:
        """Return those of `records` that are here, with their thumbnails."""
        here = [record for record in records if record.path in self.rows]
        return here, self.thumbnails[[self.rows[record.path] for record in here]]


def colour_baseline(
    samples: Samples, answers: Answers, classes: Sequence[str], labels: NDArray[np.int64], said: NDArray[np.int64]
) -> Baseline | None:
    """Compare the model, which `said` (N,) of images with `labels` (N,), with a model of colours (see `cnnkit.metrics.colour`).

    It learns from the thumbnails that were made when the images were decoded. None on the training images themselves, where none of
    these is left, or where an exported file was evaluated and no store has thumbnails.
    """
    if samples.split == TRAIN or not samples.trained:
        return None
    sample = [samples.trained[place] for place in spread_sample([record.label for record in samples.trained])]
    seen = _seen(samples, answers)
    asked, pictures = seen.of(answers.records) if seen else ([], None)
    if seen is None or pictures is None or len(asked) < len(answers.records):
        return None
    learned, shown = seen.of(sample)
    if not learned and sample:  # the store of the training is gone: look at these few
        learned, shown = _decoded(samples.source, sample)
    if not learned:
        return None
    index = {name: place for place, name in enumerate(classes)}
    guessed = colour_predictions(shown, np.array([index[record.label] for record in learned], np.int64), pictures)
    return baseline(COLOUR_BASELINE, f"colours alone ({len(learned):,} training images)", guessed == labels, said == labels, len(learned))


def _seen(samples: Samples, answers: Answers) -> _Seen | None:
    if answers.seen is not None:
        return _index(answers.scope, answers.seen.thumbnails, [bool(facts.error) for facts in answers.seen.facts])
    found = find_scan(samples.source, samples.scope)
    return _index(samples.scope, found.thumbnails, [bool(facts.error) for facts in found.facts]) if found else None


def _decoded(source: Source, records: Sequence[Record]) -> tuple[list[Record], NDArray[np.uint8]]:
    """Return the readable ones of a few records with their thumbnails, made in this process: others take longer to start."""
    here: list[Record] = []
    pictures: list[NDArray[np.uint8]] = []
    for record in records:
        with suppress(UndecodableError):
            pictures.append(measure([decode(source.read(record))])[1])
            here.append(record)
    return here, np.concatenate(pictures) if pictures else np.empty((0, THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3), np.uint8)


def _index(records: Sequence[Record], thumbnails: NDArray[np.uint8], bad: Sequence[bool]) -> _Seen:
    rows = {record.path: row for row, (record, broken) in enumerate(zip(records, bad, strict=True)) if not broken}
    return _Seen(rows, thumbnails)
