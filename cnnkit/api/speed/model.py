"""The speed, size and accuracy of a model file: stored images in batches, decoded images in batches, and one image at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.inference.inputs import input_of
from cnnkit.api.inference.prepared import predicted_batches
from cnnkit.api.inference.samples import spread
from cnnkit.data.image import UndecodableError
from cnnkit.data.source import Record, Source
from cnnkit.data.store.facts import decode
from cnnkit.errors import DataError
from cnnkit.exporters.opening import open_classifier
from cnnkit.metrics.units import Units, proportion
from cnnkit.model.classifier import Classifier, draft_side_of
from cnnkit.speed.stopwatch import Meter, time_portions
from cnnkit.speed.values import FileAccuracy, Latency, ModelSpeed

BATCH_IMAGES = 64
MAX_IMAGE_BYTES = 256_000_000  # of decoded images in memory: 64 photos of 4 MB
MIN_SINGLE_IMAGES = 100  # timed one by one; the 99th percentile of fewer images is their maximum
WARM_UP_IMAGES = 3
MAX_ACCURACY_IMAGES = 256  # as many as an export compares


@dataclass(frozen=True)
class LabelledRecords:
    """Records of `split` of a run with their labels; `units` names those images that are not independent."""

    split: str
    records: Sequence[Record]
    units: Mapping[str, str]

    @property
    def sample(self) -> Sequence[Record]:
        """At most `MAX_ACCURACY_IMAGES` records, evenly spread, the same ones for every file."""
        return spread(self.records, MAX_ACCURACY_IMAGES)


def measure_model(
    path: Path,
    source: Source,
    records: Sequence[Record],
    *,
    seconds: float,
    meter: Meter,
    tell: Callable[[str], object],
    labelled: LabelledRecords | None = None,
) -> ModelSpeed:
    """Time the model file or exported file `path` on `records` of `source`, on the CPU as `predict` does, for `seconds` a stage.

    The accuracy is that on a sample of `labelled`, records of `source` too. Raises `ModelFileError` for an unusable file, `DataError` if
    no image can be read.
    """
    classifier = open_classifier(path)
    readable, images = _decode_sample(source, records, draft_side_of(classifier))
    kind = "torch" if path.suffix == ".safetensors" else path.suffix.removeprefix(".")
    shown = path.name if kind != "torch" else kind
    tell(f"timing predict, {shown}")
    predict = time_portions(_predict_files(classifier, source, readable), seconds, meter)
    tell(f"timing classify, {shown}")
    classify = time_portions(_predict_pixels(classifier, images), seconds, meter)
    tell(f"timing one image, {shown}")
    latency = _latency(classifier, source, readable, seconds, meter.wall)
    accuracy = None
    if labelled is not None:
        tell(f"measuring the accuracy, {shown}")
        accuracy = _accuracy(classifier, source, labelled)
    return ModelSpeed(kind, str(path), source.name, predict, classify, latency, path.stat().st_size, accuracy)


def _accuracy(classifier: Classifier, source: Source, labelled: LabelledRecords) -> FileAccuracy | None:
    """Return the accuracy on the readable images of a sample of `labelled`; None if no image can be read."""
    hits: list[bool] = []
    names: list[str] = []
    sample = iter(labelled.sample)
    given = [input_of(source, record) for record in labelled.sample]
    for batch, probabilities in predicted_batches(classifier, given):
        readable = [record for image, record in zip(batch, sample, strict=False) if not image.error]
        hits += [classifier.classes[index] == record.label for index, record in zip(probabilities.argmax(1), readable, strict=True)]
        names += [labelled.units.get(record.path, record.path) for record in readable]
    if not hits:
        return None
    found = proportion(np.array(hits), Units.of(names))
    return FileAccuracy(found.value, found.low, found.high, len(hits), labelled.split)


def _decode_sample(source: Source, records: Sequence[Record], draft_side: int | None) -> tuple[list[Record], list[NDArray[np.uint8]]]:
    """Decode up to `BATCH_IMAGES` readable images, spread over `records`; raise `DataError` if there is no such image."""
    readable: list[Record] = []
    images: list[NDArray[np.uint8]] = []
    error = ""
    for record in records[:: max(1, len(records) // BATCH_IMAGES)]:
        if len(images) == BATCH_IMAGES or sum(image.nbytes for image in images) > MAX_IMAGE_BYTES:
            break
        try:
            images.append(decode(source.read(record), draft_side).image)
            readable.append(record)
        except UndecodableError as reason:
            error = f", such as {record.path}: {reason}"
    if not images:
        raise DataError(f"{source.name}: no image can be read to measure with{error}; name images with --data FOLDER")
    return readable, images


def _predict_files(classifier: Classifier, source: Source, records: Sequence[Record]) -> Iterator[int]:
    """Read, decode and classify batches without end, one after the other; yield the size of every batch."""
    endless, draft_side = cycle(records), draft_side_of(classifier)
    while True:
        images = [decode(source.read(record), draft_side).image for record in islice(endless, BATCH_IMAGES)]
        yield len(classifier.probabilities(images))


def _predict_pixels(classifier: Classifier, images: Sequence[NDArray[np.uint8]]) -> Iterator[int]:
    """Classify batches of decoded images without end; yield the size of every batch."""
    endless = cycle(images)
    while True:
        yield len(classifier.probabilities(list(islice(endless, BATCH_IMAGES))))


def _latency(classifier: Classifier, source: Source, records: Sequence[Record], seconds: float, clock: Callable[[], float]) -> Latency:
    """Time images one by one, from stored bytes to probabilities, for `seconds` and at least `MIN_SINGLE_IMAGES`."""
    decoding: list[float] = []
    total: list[float] = []
    draft_side = draft_side_of(classifier)
    stage_start = clock()
    for record in cycle(records):
        start = clock()
        image = decode(source.read(record), draft_side).image
        decoded = clock()
        classifier.probabilities([image])
        end = clock()
        decoding.append(1000 * (decoded - start))
        total.append(1000 * (end - start))
        if end - stage_start >= seconds and len(total) >= MIN_SINGLE_IMAGES + WARM_UP_IMAGES:
            break
    counted = np.array(total[WARM_UP_IMAGES:])
    p50, p95, p99 = np.percentile(counted, [50, 95, 99])
    return Latency(len(counted), float(p50), float(p95), float(p99), float(np.median(decoding[WARM_UP_IMAGES:])))
