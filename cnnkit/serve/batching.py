"""Bounded queue before the network, whose images go through it in batches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.source import StoredImage
from cnnkit.errors import CnnkitError
from cnnkit.serve.metrics import ServerMetrics
from cnnkit.serve.model import ServedModel
from cnnkit.serve.preparation import Preparation

LOG = logging.getLogger("cnnkit.serve")
AHEAD_BATCHES = 2  # of canvases that are ready beside the batch in the network
Probabilities = NDArray[np.float32] | str  # of one image (K,), or the reason why it has none


class QueueFullError(Exception):
    """A request that came while `ServeLimits.queue` others waited."""


class ModelFailedError(Exception):
    """The network cannot be run any more; the log has the reason."""


class _WaitingRequest:
    """A request in the queue, which it leaves when the last of its `images` does; `change` counts the requests of the queue."""

    def __init__(self, images: int, change: Callable[[int], None]) -> None:
        self._images = images
        self._change = change
        change(1)

    def leave(self) -> None:
        """Let one image leave the queue."""
        self._images -= 1
        if not self._images:
            self._change(-1)


class _ReadyImage(NamedTuple):
    """A prepared image, the request that it belongs to, and the future of its probabilities."""

    pixels: NDArray[np.uint8]
    request: _WaitingRequest
    result: asyncio.Future[NDArray[np.float32]]


class Batcher:
    """The way of uploads through decoding and network: each request waits in the queue until its last image enters the network.

    An image that is ready goes first, so that a file that decodes slowly holds up no other request.
    """

    def __init__(self, model: ServedModel, preparation: Preparation, queue: int, metrics: ServerMetrics) -> None:
        self._model = model
        self._preparation = preparation
        self._limit = queue
        self._metrics = metrics
        self._waiting = 0
        self._ready: asyncio.Queue[_ReadyImage] = asyncio.Queue()
        self._ahead = asyncio.Semaphore(preparation.workers + (AHEAD_BATCHES * model.max_batch if model.spec else 1))
        self._thread = ThreadPoolExecutor(1, "cnnkit-network")
        self._loop: asyncio.Task[None] | None = None
        self.failed = False

    @property
    def is_full(self) -> bool:
        """True if the next request would be refused."""
        return self._waiting >= self._limit

    def start(self) -> None:
        """Start to take images from the queue."""
        self._loop = asyncio.create_task(self._run_batches())

    async def warm_up(self) -> None:
        """Predict a black image, so that the first request finds running processes."""
        await self.probabilities([np.zeros((8, 8, 3), np.uint8)])

    async def close(self) -> None:
        """Stop; every accepted request must have its response already."""
        if self._loop is not None:
            self._loop.cancel()
        self._thread.shutdown()
        self._preparation.close()

    async def probabilities(self, images: Sequence[StoredImage]) -> list[Probabilities]:
        """Return the probabilities of the images of one request, or the reason for an image that cannot be read.

        Raises `QueueFullError` at once if the queue is full, and `ModelFailedError` if the network cannot be run.
        """
        if self.is_full:
            raise QueueFullError
        if self.failed:
            raise ModelFailedError
        request = _WaitingRequest(len(images), self._count_waiting)
        return await asyncio.gather(*(self._predict(image, request) for image in images))

    def _count_waiting(self, change: int) -> None:
        self._waiting += change
        self._metrics.queue_length.set(self._waiting)

    async def _predict(self, image: StoredImage, request: _WaitingRequest) -> Probabilities:
        async with self._ahead:
            prepared = await self._prepare(image)
            if isinstance(prepared, str):
                request.leave()
                return prepared
            ready = _ReadyImage(prepared, request, asyncio.get_running_loop().create_future())
            self._ready.put_nowait(ready)
            return await ready.result

    async def _prepare(self, image: StoredImage) -> NDArray[np.uint8] | str:
        from pebble import ProcessExpired

        try:
            return await asyncio.wrap_future(self._preparation.start(image))
        except (TimeoutError, ProcessExpired) as error:
            return self._preparation.reason(error)
        except RuntimeError as error:  # the processes cannot be started any more
            self._fail(error)
            raise ModelFailedError from None

    def _fail(self, error: Exception) -> None:
        """Note that nothing can be predicted any more, with the reason in the log."""
        LOG.error("%s", error, exc_info=None if isinstance(error, CnnkitError) else error)
        self.failed = True

    async def _run_batches(self) -> None:
        """Run the network on the images that are ready, for ever."""
        while True:
            batch = [await self._ready.get()]
            while len(batch) < self._model.max_batch and not self._ready.empty():
                batch.append(self._ready.get_nowait())
            for item in batch:
                item.request.leave()
            self._metrics.batch_size.observe(len(batch))
            network = partial(self._model.probabilities, [item.pixels for item in batch])
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._thread, network)
            except Exception as error:  # noqa: BLE001 (whatever it is, no request may wait for ever)
                self._fail(error)
                for item in batch:
                    if not item.result.done():
                        item.result.set_exception(ModelFailedError())
                continue
            for item, row in zip(batch, found, strict=True):
                if not item.result.done():  # cancelled by a second signal
                    item.result.set_result(row)
