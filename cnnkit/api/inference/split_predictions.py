"""Predictions of a model for the images of a split, which come from the store or are decoded from the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cnnkit.api.inference.samples import Samples
from cnnkit.data.image import UndecodableError
from cnnkit.data.progress import Progress
from cnnkit.data.source import Record
from cnnkit.data.store.facts import decode
from cnnkit.data.store.scan import Scan, find_scan, scan
from cnnkit.data.store.stream import BATCH_ROWS, gather, in_batches
from cnnkit.model.classifier import Classifier, draft_side_of
from cnnkit.model.torch_classifier import TorchClassifier

if TYPE_CHECKING:
    from cnnkit.model.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class SplitPredictions:
    """The predictions for a split: the readable `records` with their `probabilities` (N, K).

    `contents` (N,) are the SHA-256 of the images. `bad` holds the path of each unreadable image and the reason, `changed` the paths of
    the images whose content changed after the training. `seen` is the scan that holds the canvases; its rows are the rows of `scope`.
    It is None if no store was used.
    """

    records: Sequence[Record]
    probabilities: NDArray[np.float32]
    contents: Sequence[str]
    bad: tuple[tuple[str, str], ...]
    changed: Sequence[str]
    scope: Sequence[Record] = ()
    seen: Scan | None = None

    @property
    def notes(self) -> list[str]:
        """Sentences for the user about changed images."""
        return [f"{len(self.changed)} images have changed since the training, such as {self.changed[0]}"] if self.changed else []


def predict_split(classifier: Classifier, samples: Samples, progress: Progress | None = None) -> SplitPredictions:
    """Return the predictions of `classifier` for all `samples`."""
    if isinstance(classifier, TorchClassifier):
        return _from_store(classifier, samples, progress)
    good: list[Record] = []
    bad: list[tuple[str, str]] = []
    blocks: list[NDArray[np.float32]] = []
    changed: list[str] = []
    contents: list[str] = []
    for start in range(0, len(samples.records), BATCH_ROWS):
        images = []
        for record in samples.records[start : start + BATCH_ROWS]:
            try:
                pixels = decode(samples.source.read(record), draft_side_of(classifier))
            except UndecodableError as error:
                bad.append((record.path, str(error)))
                continue
            images.append(pixels.image)
            good.append(record)
            contents.append(pixels.sha256)
            if samples.hashes.get(record.path, pixels.sha256) != pixels.sha256:
                changed.append(record.path)
        if images:
            blocks.append(classifier.probabilities(images))
        if progress:
            progress(min(start + BATCH_ROWS, len(samples.records)), len(samples.records))
    probabilities = np.concatenate(blocks) if blocks else np.empty((0, len(classifier.classes)), np.float32)
    return SplitPredictions(good, probabilities, contents, tuple(bad), changed)


def _from_store(classifier: TorchClassifier, samples: Samples, progress: Progress | None) -> SplitPredictions:
    """Return the predictions for `samples` from the canvases in the store of the training, bit for bit those of the training.

    Without that store, only the images of the split are decoded, not the whole scope of the split.
    """
    geometry: Preprocessing = classifier.model.header.preprocessing
    scope, found = samples.scope, find_scan(samples.source, samples.scope, geometry)
    if found is None:
        scope, found = samples.records, scan(samples.source, samples.records, geometry, progress=progress)
    assert found.canvases is not None  # noqa: S101 (a geometry was given)
    wanted = {record.path for record in samples.records}
    chosen = [row for row, record in enumerate(scope) if record.path in wanted]
    is_readable = found.facts.readable
    bad = tuple((scope[row].path, found.facts[row].error) for row in chosen if not is_readable[row])
    rows = np.array([row for row in chosen if is_readable[row]], dtype=np.int64)
    blocks = [classifier.canvas_probabilities(torch.from_numpy(canvases)) for canvases in gather(found.canvases, in_batches(rows))]
    records = [scope[row] for row in rows]
    contents = list(found.facts.hashes.take(rows))
    changed = [r.path for r, content in zip(records, contents, strict=True) if samples.hashes.get(r.path, content) != content]
    return SplitPredictions(records, np.concatenate(blocks), contents, bad, changed, scope, found)
