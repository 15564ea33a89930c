"""The speed of a model file: stored images in batches, decoded images in batches, and one image at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.image import UndecodableError
from cnnkit.data.source import Record, Source
from cnnkit.data.store.facts import decode
from cnnkit.errors import DataError
from cnnkit.exporters.opening import open_classifier
from cnnkit.model.classifier import Classifier, draft_side_of
from cnnkit.speed.stopwatch import Meter, time_portions
from cnnkit.speed.values import Latency, ModelSpeed

BATCH_IMAGES = 64
MAX_IMAGE_BYTES = 256_000_000  # of decoded images in memory: 64 photos of 4 MB
MIN_SINGLE_IMAGES = 20  # timed one by one; the 95th percentile of fewer images is nearly their maximum
WARM_UP_IMAGES = 3


def measure_model(
    path: Path,
    source: Source,
    records: Sequence[Record],
    *,
    seconds: float,
    meter: Meter,
    tell: Callable[[str], object],
) -> ModelSpeed:
    """Time the model file or exported file `path` on `records` of `source`, on the CPU as `predict` does, for `seconds` a stage.

    Raises `ModelFileError` for an unusable file, `DataError` if no image can be read.
    """
    classifier = open_classifier(path)
    readable, images = _decode_sample(source, records, draft_side_of(classifier))
    kind = "torch" if path.suffix == ".safetensors" else path.suffix.removeprefix(".")
    tell(f"timing predict, {kind}")
    predict = time_portions(_predict_files(classifier, source, readable), seconds, meter)
    tell(f"timing classify, {kind}")
    classify = time_portions(_predict_pixels(classifier, images), seconds, meter)
    tell(f"timing one image, {kind}")
    latency = _latency(classifier, source, readable, seconds, meter.wall)
    return ModelSpeed(kind, str(path), source.name, predict, classify, latency)


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
    p50, p95 = np.percentile(counted, [50, 95])
    return Latency(len(counted), float(p50), float(p95), float(np.median(decoding[WARM_UP_IMAGES:])))
