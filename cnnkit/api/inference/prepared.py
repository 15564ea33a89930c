"""Images for a prediction: the part of a list that this process takes, decoded and resized beside the network.

Every command that predicts images of files gets them here: in order, a few batches ahead, by threads or by processes.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.inference.drift import DriftWatch
from cnnkit.api.inference.inputs import Input, read_stored
from cnnkit.data.image import UndecodableError
from cnnkit.data.source import Record, StoredImage
from cnnkit.data.store.decoding import Block, decode_block, read_all
from cnnkit.data.store.facts import decode
from cnnkit.data.store.pool import DecodingPool
from cnnkit.errors import ConfigError
from cnnkit.model.classifier import CanvasClassifier, Classifier, draft_side_of
from cnnkit.model.preprocessing import Preprocessing

MAX_BATCH_IMAGES = 64
MAX_BATCH_PIXELS = 2**24  # of a batch, and of the batch that is prepared ahead: 50 MB each
AHEAD_PER_THREAD = 2  # decoded photos that wait in each thread's name: a photo of 12 megapixels takes 36 MB
# Threads share the interpreter, processes take a second to start: see docs/benchmarks/LOG.md, "Decoding beside a prediction".
MIN_PROCESS_IMAGES = 1024

_Image = TypeVar("_Image")
_FORM_OF_SHARD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True)
class Shard:
    """The part `number`, from 1, of a list in `count` parts.

    Parts are contiguous and hold whole blocks of `MAX_BATCH_IMAGES` images. The batches of all parts are then those of the whole list, so
    the probabilities are equal to the last bit: a network may round differently in a batch of another size.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``I/N`` such as ``1/3``; raises `ConfigError` for another form, and unless 1 <= I <= N."""
        found = _FORM_OF_SHARD.fullmatch(text.strip())
        number, count = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= count:
            raise ConfigError(f"--shard {text}: must be I/N, part I of N with I from 1 to N; for the first of three parts: --shard 1/3")
        return cls(number, count)

    def part(self, images: Sequence[_Image]) -> Sequence[_Image]:
        """Return the images of this part; without as many blocks as parts, the last parts are empty."""
        blocks = -(-len(images) // MAX_BATCH_IMAGES)
        first, end = (-(-blocks * number // self.count) for number in (self.number - 1, self.number))
        return images[first * MAX_BATCH_IMAGES : end * MAX_BATCH_IMAGES]


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """The image `given` as its canvas, uint8 (C, S, S), or as decoded pixels, uint8 (H, W, 3); with an `error`, neither.

    `sha256` is that of its stored form, in hex, empty after an error.
    """

    given: Input
    pixels: NDArray[np.uint8] | None
    error: str = ""
    sha256: str = ""


def prepared_batches(given: Sequence[Input], spec: Preprocessing | None, draft_side: int | None) -> Iterator[list[PreparedImage]]:
    """Yield the images in batches and in order, as canvases of `spec`, or without one as pixels that are decoded with `draft_side`.

    The images that wait beside a batch have a limit that does not depend on the number of images: see `DecodingPool` and
    `decoded_images`. A batch begins at every multiple of `MAX_BATCH_IMAGES`, so the batches from there do not depend on the images before.
    """
    most = MAX_BATCH_IMAGES if spec is None else max(1, min(MAX_BATCH_IMAGES, MAX_BATCH_PIXELS // spec.image_size**2))
    batch: list[PreparedImage] = []
    pixels = 0
    images = decoded_images(given, draft_side) if spec is None else _canvases(given, spec)
    for number, image in enumerate(images, start=1):
        batch.append(image)
        pixels += 0 if image.pixels is None else image.pixels.size // 3
        if len(batch) >= most or pixels >= MAX_BATCH_PIXELS or number % MAX_BATCH_IMAGES == 0:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def predicted_batches(
    classifier: Classifier, given: Sequence[Input], watch: DriftWatch | None = None
) -> Iterator[tuple[list[PreparedImage], NDArray[np.float32]]]:
    """Yield the batches of images with the probabilities (n, K) of those n that are readable, which a `watch` records."""
    on_canvases = classifier if isinstance(classifier, CanvasClassifier) and classifier.canvas_spec else None
    for batch in prepared_batches(given, on_canvases.canvas_spec if on_canvases else None, draft_side_of(classifier)):
        images = [image.pixels for image in batch if image.pixels is not None]
        if not images:
            yield batch, np.empty((0, len(classifier.classes)), np.float32)
        elif on_canvases:
            canvases = np.stack(images)
            yield batch, watch.canvas_probabilities(on_canvases, canvases) if watch else on_canvases.predict_canvases(canvases)
        else:
            yield batch, watch.probabilities(classifier, images) if watch else classifier.probabilities(images)


def decoded_images(given: Sequence[Input], draft_side: int | None) -> Iterator[PreparedImage]:
    """Yield the images in order as pixels that are decoded with `draft_side`; threads decode a few of them ahead."""
    if len(given) <= 1:  # starting a thread costs more than it saves
        yield from (_decoded(image, draft_side) for image in given)
        return
    count = min(os.cpu_count() or 1, len(given))
    waiting: deque[Future[PreparedImage]] = deque()
    remaining = iter(given)
    with ThreadPoolExecutor(count, "cnnkit-read") as threads:
        try:
            while True:
                room = AHEAD_PER_THREAD * count - len(waiting)
                waiting.extend(threads.submit(_decoded, image, draft_side) for image in islice(remaining, room))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _decoded(given: Input, draft_side: int | None) -> PreparedImage:
    try:
        found = decode(read_stored(given), draft_side)
    except UndecodableError as error:
        return PreparedImage(given, None, str(error))
    return PreparedImage(given, found.image, sha256=found.sha256)


def _canvases(given: Sequence[Input], spec: Preprocessing) -> Iterator[PreparedImage]:
    """Yield the images in order as canvases of `spec`; threads make those of a short list, processes those of a long one."""
    reader, records = _InputReader(given), (Record(str(index), "") for index in range(len(given)))
    if len(given) <= 1:  # as above
        yield from _split(given, [decode_block(read_all(reader, list(records)), (spec,), measured=False)])
        return
    workers = min(os.cpu_count() or 1, len(given))
    with DecodingPool(reader, (spec,), workers, measured=False, processes=len(given) >= MIN_PROCESS_IMAGES) as pool:
        yield from _split(given, pool.blocks(records))


class _InputReader:
    """The images `given` as the images of a source, whose paths are their indices."""

    def __init__(self, given: Sequence[Input]) -> None:
        self._given = given

    def read(self, record: Record) -> StoredImage:
        """Return one image; raises `UndecodableError` for an unreadable file."""
        return read_stored(self._given[int(record.path)])


def _split(given: Sequence[Input], blocks: Iterable[Block]) -> Iterator[PreparedImage]:
    """Yield the images `given`, whose canvases lie in `blocks`, one by one."""
    results = ((facts, canvas) for block in blocks for facts, canvas in zip(block.facts, block.canvases[0], strict=True))
    for image, (facts, canvas) in zip(given, results, strict=True):
        yield PreparedImage(image, None if facts.error else canvas, facts.error, facts.sha256)
