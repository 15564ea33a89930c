"""Work of a decoding process on one upload: its pixels, as the network takes them."""

from __future__ import annotations

import os
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.image import UndecodableError, decode_image, image_size
from cnnkit.data.source import StoredImage
from cnnkit.data.store.decoding import prepare_worker
from cnnkit.data.store.pool import DecodingProcesses, failure_reason
from cnnkit.exporters.session_process import limit_memory
from cnnkit.model.canvas import make_canvases

if TYPE_CHECKING:
    from cnnkit.model.preprocessing import Preprocessing

BYTES_PER_PIXEL = 20  # that decoding may allocate: 100 megapixels take at most 2.0 GB, see docs/benchmarks/LOG.md, "Largest image"
MIN_MEMORY_BYTES = 2**28
Prepared = NDArray[np.uint8] | str  # pixels, or the reason why there are none


def prepare_image(stored: StoredImage, spec: Preprocessing | None, draft_side: int | None, max_pixels: int) -> Prepared:
    """Return the canvas of `spec`, uint8 (C, S, S), or without one the pixels, uint8 (H, W, 3); for a bad file, the reason.

    `stored` is the content of a file, or pixels of that form, which need no decoding.
    """
    try:
        height, width = image_size(stored) if isinstance(stored, bytes) else stored.shape[:2]
        if height * width > max_pixels:
            limit = f"the limit of {max_pixels / 1e6:g} megapixels of this server"
            return f"{width} x {height} pixels are more than {limit}; make the image smaller"
        pixels = decode_image(stored, draft_side) if isinstance(stored, bytes) else stored
    except UndecodableError as error:
        return str(error)
    return pixels if spec is None else make_canvases([pixels], spec)[0]


class Preparation:
    """Processes that prepare uploads for a network, each within `seconds`, `max_pixels` and a memory that follows from them."""

    def __init__(self, spec: Preprocessing | None, draft_side: int | None, *, max_pixels: int, seconds: float) -> None:
        self.workers = os.cpu_count() or 1
        self._spec = spec
        self._draft_side = draft_side
        self._max_pixels = max_pixels
        self._seconds = seconds
        memory = max(MIN_MEMORY_BYTES, BYTES_PER_PIXEL * max_pixels)
        self._processes = DecodingProcesses(self.workers, partial(_prepare_process, memory))

    def start(self, stored: StoredImage) -> Future[Prepared]:
        """Start the preparation of an image; `reason` takes the error of its future."""
        return self._processes.schedule(prepare_image, stored, self._spec, self._draft_side, self._max_pixels, timeout=self._seconds)

    def reason(self, error: Exception) -> str:
        """Return why an image has no pixels, after the `error` of its future."""
        return failure_reason(error, self._seconds)

    def close(self) -> None:
        """Stop the processes at once."""
        self._processes.close()


def _prepare_process(memory: int) -> None:
    prepare_worker(with_torch=False)
    limit_memory(memory)
