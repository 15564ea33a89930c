"""Images for a prediction: the part of a list that this process takes, decoded and resized in threads beside the network."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.inference.inputs import Input, name_of, read_input
from cnnkit.errors import ConfigError, DataError
from cnnkit.model.canvas import make_canvases
from cnnkit.model.preprocessing import Preprocessing

MAX_BATCH_IMAGES = 64
MAX_BATCH_PIXELS = 2**24  # of a batch, and of the batch that is prepared ahead: 50 MB each
AHEAD_PER_THREAD = 2  # decoded photos that wait in each thread's name: a photo of 12 megapixels takes 36 MB

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
    """The image `given` as its canvas, uint8 (C, S, S), or as decoded pixels, uint8 (H, W, 3); with an `error`, neither."""

    given: Input
    pixels: NDArray[np.uint8] | None
    error: str = ""


Prepare = Callable[[Input], PreparedImage]


def prepared_batches(given: Sequence[Input], spec: Preprocessing | None, draft_side: int | None) -> Iterator[list[PreparedImage]]:
    """Yield the images in batches and in order, as canvases of `spec`, or as decoded pixels without one.

    Files are decoded with `draft_side`. At most one batch waits beside the one that was yielded, whatever the number of images. A batch
    begins at every multiple of `MAX_BATCH_IMAGES`, so the batches from there do not depend on the images before.
    """
    most = MAX_BATCH_IMAGES if spec is None else max(1, min(MAX_BATCH_IMAGES, MAX_BATCH_PIXELS // spec.image_size**2))
    batch: list[PreparedImage] = []
    pixels = 0
    images = _prepared(given, partial(_prepare, spec=spec, draft_side=draft_side), most if spec else None)
    for number, image in enumerate(images, start=1):
        batch.append(image)
        pixels += 0 if image.pixels is None else image.pixels.size // 3
        if len(batch) >= most or pixels >= MAX_BATCH_PIXELS or number % MAX_BATCH_IMAGES == 0:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _prepared(given: Sequence[Input], prepare: Prepare, ahead: int | None) -> Iterator[PreparedImage]:
    """Yield the images in order; `ahead` canvases are made ahead, or a few photos for None."""
    if len(given) <= 1:  # starting a thread costs more than it saves
        yield from map(prepare, given)
        return
    count = min(os.cpu_count() or 1, len(given))
    waiting: deque[Future[PreparedImage]] = deque()
    remaining = iter(given)
    with ThreadPoolExecutor(count, "cnnkit-read") as threads:
        try:
            while True:
                room = (AHEAD_PER_THREAD * count if ahead is None else max(ahead, count)) - len(waiting)
                waiting.extend(_start(threads, image, prepare) for image in islice(remaining, room))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _start(threads: ThreadPoolExecutor, image: Input, prepare: Prepare) -> Future[PreparedImage]:
    """Prepare an image in a thread, or at once if it is in memory, since two threads may not read one Pillow image."""
    if isinstance(image, Path):
        return threads.submit(prepare, image)
    done: Future[PreparedImage] = Future()
    done.set_result(prepare(image))
    return done


def _prepare(given: Input, spec: Preprocessing | None, draft_side: int | None) -> PreparedImage:
    try:
        image = read_input(given, draft_side)
    except DataError as error:
        return PreparedImage(given, None, str(error).removeprefix(f"{name_of(given)}: "))
    return PreparedImage(given, image if spec is None else make_canvases([image], spec)[0])
