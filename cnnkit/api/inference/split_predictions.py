"""Predictions of a model for the images of a split, which come from the store or are decoded from the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cnnkit.api.inference.inputs import input_of
from cnnkit.api.inference.prepared import predicted_batches
from cnnkit.api.inference.samples import Samples
from cnnkit.data.progress import Progress
from cnnkit.data.source import Record
from cnnkit.data.staging import one_ahead, pinned
from cnnkit.data.store.scan import Scan, find_scan, scan
from cnnkit.data.store.stream import gather, in_batches
from cnnkit.errors import counted
from cnnkit.model.classifier import Classifier
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
        if not self.changed:
            return []
        return [f"{counted(len(self.changed), 'image has', 'images have')} changed since the training, such as {self.changed[0]}"]


def predict_split(classifier: Classifier, samples: Samples, progress: Progress | None = None) -> SplitPredictions:
    """Return the predictions of `classifier` for all `samples`."""
    if isinstance(classifier, TorchClassifier):
        return _from_store(classifier, samples, progress)
    good: list[Record] = []
    bad: list[tuple[str, str]] = []
    blocks = [np.empty((0, len(classifier.classes)), np.float32)]
    contents: list[str] = []
    remaining = iter(samples.records)
    done = 0
    for batch, probabilities in predicted_batches(classifier, [input_of(samples.source, record) for record in samples.records]):
        for image, record in zip(batch, remaining, strict=False):
            if image.error:
                bad.append((record.path, image.error))
            else:
                good.append(record)
                contents.append(image.sha256)
        blocks.append(probabilities)
        done += len(batch)
        if progress:
            progress(done, len(samples.records))
    changed = _changed(samples, good, contents)
    return SplitPredictions(good, np.concatenate(blocks), contents, tuple(bad), changed)


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
    canvases = (pinned(torch.from_numpy(block), classifier.device) for block in gather(found.canvases, in_batches(rows)))
    blocks = [classifier.canvas_probabilities(block) for block in one_ahead(canvases)]
    records = [scope[row] for row in rows]
    contents = list(found.facts.hashes.take(rows))
    changed = _changed(samples, records, contents)
    return SplitPredictions(records, np.concatenate(blocks), contents, bad, changed, scope, found)


def _changed(samples: Samples, records: Sequence[Record], contents: Sequence[str]) -> list[str]:
    """Return the paths of those of `records` whose `contents` differ from those at the time of the split."""
    return [r.path for r, content in zip(records, contents, strict=True) if samples.hashes.get(r.path, content) != content]
