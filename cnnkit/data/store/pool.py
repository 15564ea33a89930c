"""Processes that decode: a file that hangs the decoder or crashes it costs itself, and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing.context import BaseContext, SpawnContext, SpawnProcess
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, Self

from cnnkit.data.source import Record, Source
from cnnkit.data.store.decoding import Block, ReadResult, decode_block, prepare_worker, read_all

if TYPE_CHECKING:
    from pebble import ProcessPool

    from cnnkit.model.preprocessing import Preprocessing

TIMEOUT_SECONDS = 30.0  # s a file: a JPEG of the largest size that is allowed takes about 2 s on one core
CHUNKS_PER_WORKER = 4  # chunks per worker that are being decoded or wait, decoded, for their turn
# Images are handed over in chunks that cost less to hand over than to decode (see docs/benchmarks/LOG.md, "Chunks of decoding"),
# yet small enough that what is under way stays below 32 MB per worker.
MAX_CHUNK_IMAGES = 64
MAX_CHUNK_BYTES = 8_000_000
FIRST_CHUNK_IMAGES = 4  # images in a chunk before it is known how large they are
# Imported once, by the server that processes are forked from: torch takes 2 s, which none then pays again.
PRELOADED_MODULES = ("cnnkit.data.store.pool", "pebble.pool.process", "cnnkit.model.preprocess")


class _PendingChunk(NamedTuple):
    """A chunk on its way: what was read, and its block to come."""

    stored: list[ReadResult]
    block: Future[Block]


class DecodingPool:
    """Workers that turn chunks of records into blocks, in order.

    Files go to processes, where each has `timeout` seconds; pixels that a source holds already stay in threads of this
    process. Processes start when the first file comes. `geometry` and `measured` are those of `decode_block`. Use it in a
    ``with`` statement, or call `close`.
    """

    def __init__(
        self,
        source: Source,
        geometry: Preprocessing | None,
        workers: int = 0,
        *,
        measured: bool = True,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self._source = source
        self._geometry = geometry
        self._measured = measured
        self._timeout = timeout
        self._workers = workers or os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self._workers, "cnnkit-read")
        self._processes: ProcessPool | None = None
        self._starting = Lock()

    def blocks(self, records: Iterable[Record]) -> Generator[Block]:
        """Yield blocks of images, in the order of `records`, a few ahead of who consumes them."""
        waiting: deque[Future[_PendingChunk]] = deque()
        remaining = iter(records)
        length = FIRST_CHUNK_IMAGES
        try:
            while True:
                while len(waiting) < CHUNKS_PER_WORKER * self._workers and (chunk := list(islice(remaining, length))):
                    waiting.append(self._threads.submit(self._start, chunk))
                if not waiting:
                    return
                started = waiting.popleft().result()
                block = self._finish(started)
                length = max(1, min(MAX_CHUNK_IMAGES, MAX_CHUNK_BYTES * len(block.facts) // _weight(started.stored, block)))
                yield block
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Stop the workers, whatever they are doing."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        if self._processes is not None:
            self._processes.stop()
            self._processes.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, records: Sequence[Record]) -> _PendingChunk:
        """Read a chunk and set it going; runs in a thread."""
        stored = read_all(self._source, records)
        if any(isinstance(item, bytes) for item in stored):
            return _PendingChunk(stored, self._submit(stored))
        done: Future[Block] = Future()
        done.set_result(decode_block(stored, self._geometry, measured=self._measured))
        return _PendingChunk(stored, done)

    def _submit(self, stored: list[ReadResult]) -> Future[Block]:
        with self._starting:
            if self._processes is None:
                from pebble import ProcessPool  # here, as most commands find everything in the cache

                self._processes = ProcessPool(
                    self._workers, initializer=prepare_worker, initargs=(self._geometry,), context=_context(self._geometry)
                )
        return self._processes.schedule(
            decode_block, args=(stored, self._geometry), kwargs={"measured": self._measured}, timeout=self._timeout
        )

    def _finish(self, started: _PendingChunk) -> Block:
        """Wait for a chunk; if it took too long or brought its process down, decode its images one by one."""
        from pebble import ProcessExpired

        try:
            return started.block.result()
        except (TimeoutError, ProcessExpired) as error:
            if len(started.stored) == 1:
                return decode_block([self._reason(error)], self._geometry, measured=self._measured)
        parts = [self._finish(_PendingChunk([item], self._submit([item]))) for item in started.stored]
        return Block.join(parts)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"decoding took more than {self._timeout:g} s and was stopped"
        return "the decoder crashed on it, or ran out of memory"


def stop_server() -> None:
    """End the process that workers are forked from, which holds 0.36 GB with torch; the next pool starts it anew, in 2 s."""
    if sys.platform != "win32":
        # There is no public way; by itself it ends with this process.
        forkserver._forkserver._stop()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]


def _weight(stored: Sequence[ReadResult], block: Block) -> int:
    """Bytes of a chunk as it goes to a worker and as it comes back."""
    sent = sum(len(item) if isinstance(item, bytes | str) else item.nbytes for item in stored)
    return sent + block.thumbnails.nbytes + (0 if block.canvases is None else block.canvases.nbytes)


def _context(geometry: Preprocessing | None) -> BaseContext:
    """Return how processes are made: forked from a server that has loaded the decoder but has no threads, where that exists."""
    if sys.platform == "win32":
        return _SpawnContext()
    with_torch = geometry is not None or "torch" in sys.modules  # canvases will be asked for sooner or later, and the server stays
    multiprocessing.set_forkserver_preload(list(PRELOADED_MODULES if with_torch else PRELOADED_MODULES[:-1]))
    return _ForkContext()


@contextmanager
def _without_main() -> Generator[None]:
    """Hide the user's script while a process starts, which would otherwise run it again to know its functions."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class _SpawnedProcess(SpawnProcess):
    def start(self) -> None:
        with _without_main():
            super().start()


class _SpawnContext(SpawnContext):
    Process = _SpawnedProcess


if sys.platform != "win32":
    from multiprocessing import forkserver
    from multiprocessing.context import ForkServerContext, ForkServerProcess

    class _ForkedProcess(ForkServerProcess):
        def start(self) -> None:
            with _without_main():
                super().start()

    class _ForkContext(ForkServerContext):
        Process = _ForkedProcess
