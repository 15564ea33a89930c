"""Pool of decoding processes, in which a file that hangs or crashes the decoder does not affect other files."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing.context import BaseContext, SpawnContext, SpawnProcess
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from cnnkit.data.source import Reader, Record
from cnnkit.data.store.decoding import Block, ReadResult, decode_block, prepare_worker, read_all
from cnnkit.data.store.fast_decoder import can_decode_faster

if TYPE_CHECKING:
    from pebble import ProcessPool

    from cnnkit.model.preprocessing import Preprocessing

Result = TypeVar("Result")
TIMEOUT_SECONDS = 30.0  # per file: a JPEG of the largest allowed size takes about 2 s on one core
CHUNKS_PER_WORKER = 4  # chunks per worker in decoding, or decoded and waiting for their turn
# The decoding of a chunk costs more than its transfer: see docs/benchmarks/LOG.md, "Chunks of decoding". The chunks of a worker stay
# below 32 MB.
MAX_CHUNK_IMAGES = 64
MAX_CHUNK_BYTES = 8_000_000
FIRST_CHUNK_IMAGES = 4  # images per chunk before the size of the images is known
PRELOADED_MODULES = ("cnnkit.data.store.pool", "pebble.pool.process")  # the server, from which workers are forked, imports them once


class _PendingChunk(NamedTuple):
    """A chunk in decoding: its stored images, and its future block."""

    stored: list[ReadResult]
    block: Future[Block]


class DecodingProcesses:
    """Up to `workers` processes that start with the first task; the processes of a server of forks cost little.

    `prepare` runs once in each process. Tasks are functions of a module and their arguments. A task may be scheduled from any thread.
    """

    def __init__(self, workers: int, prepare: Callable[[], object], *, with_torch: bool = False) -> None:
        self._workers = workers
        self._prepare = prepare
        self._with_torch = with_torch
        self._pool: ProcessPool | None = None
        self._starting = Lock()

    def schedule(self, task: Callable[..., Result], *args: Any, timeout: float, **kwargs: Any) -> Future[Result]:
        """Start a task that may run for `timeout` seconds; its future raises `TimeoutError`, or `ProcessExpired` after a crash."""
        with self._starting:
            if self._pool is None:
                from pebble import ProcessPool  # imported here, since most commands find everything in the cache

                self._pool = ProcessPool(self._workers, initializer=self._prepare, context=_context(with_torch=self._with_torch))
        return self._pool.schedule(task, args=args, kwargs=kwargs, timeout=timeout)

    def close(self) -> None:
        """Stop the processes at once."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()


def failure_reason(error: Exception, timeout: float) -> str:
    """Return why an image has no pixels: its decoding took more than `timeout` seconds, or ended the process."""
    if isinstance(error, TimeoutError):
        return f"decoding took more than {timeout:g} s and was stopped"
    return "the decoder crashed or ran out of memory"


class DecodingPool:
    """Workers that turn chunks of records into blocks, in order.

    Files go to processes, with `timeout` seconds per file. Pixels of a source stay in threads of this process; without `processes`, files
    do too, one by one. Processes start with the first file. `geometries` and `measured` are passed to `decode_block`. Use the pool in a
    ``with`` statement, or call `close`.
    """

    def __init__(
        self,
        source: Reader,
        geometries: Sequence[Preprocessing] = (),
        workers: int = 0,
        *,
        measured: bool = True,
        timeout: float = TIMEOUT_SECONDS,
        processes: bool = True,
    ) -> None:
        self._source = source
        self._geometries = tuple(geometries)
        self._measured = measured
        self._timeout = timeout
        self._workers = workers or os.cpu_count() or 1
        self._in_processes = processes
        self._threads = ThreadPoolExecutor(self._workers, "cnnkit-read")
        # Only photos that are decoded whole gain more from the fast decoder than the import of torch costs.
        with_torch = can_decode_faster() and any(geometry.draft_side is None for geometry in self._geometries)
        prepare = partial(prepare_worker, with_torch=with_torch)
        self._processes = DecodingProcesses(self._workers, prepare, with_torch=with_torch)

    def blocks(self, records: Iterable[Record]) -> Generator[Block]:
        """Yield blocks of images in the order of `records`; a few blocks are decoded ahead."""
        waiting: deque[Future[_PendingChunk]] = deque()
        remaining = iter(records)
        length = FIRST_CHUNK_IMAGES if self._in_processes else 1
        ahead = CHUNKS_PER_WORKER * self._workers if self._in_processes else max(MAX_CHUNK_IMAGES, self._workers)
        try:
            while True:
                while len(waiting) < ahead and (chunk := list(islice(remaining, length))):
                    waiting.append(self._threads.submit(self._start, chunk))
                if not waiting:
                    return
                started = waiting.popleft().result()
                block = self._finish(started)
                if self._in_processes:
                    length = max(1, min(MAX_CHUNK_IMAGES, MAX_CHUNK_BYTES * len(block.facts) // _weight(started.stored, block)))
                yield block
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Stop the workers at once."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._processes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, records: Sequence[Record]) -> _PendingChunk:
        """Read a chunk and start its decoding; this runs in a thread."""
        stored = read_all(self._source, records)
        if self._in_processes and any(isinstance(item, bytes) for item in stored):
            return _PendingChunk(stored, self._submit(stored))
        done: Future[Block] = Future()
        done.set_result(decode_block(stored, self._geometries, measured=self._measured))
        return _PendingChunk(stored, done)

    def _submit(self, stored: list[ReadResult]) -> Future[Block]:
        return self._processes.schedule(decode_block, stored, self._geometries, measured=self._measured, timeout=self._timeout)

    def _finish(self, started: _PendingChunk) -> Block:
        """Wait for a chunk; if it timed out or crashed its process, decode its images one by one."""
        from pebble import ProcessExpired

        try:
            return started.block.result()
        except (TimeoutError, ProcessExpired) as error:
            if len(started.stored) == 1:
                return decode_block([failure_reason(error, self._timeout)], self._geometries, measured=self._measured)
        parts = [self._finish(_PendingChunk([item], self._submit([item]))) for item in started.stored]
        return Block.join(parts)


def stop_server() -> None:
    """End the process from which workers are forked; it holds 0.36 GB with torch, and the next pool starts it again."""
    if sys.platform != "win32":
        # There is no public function for this; otherwise the server ends with this process.
        forkserver._forkserver._stop()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]


def _weight(stored: Sequence[ReadResult], block: Block) -> int:
    """Return the bytes of a chunk on its way to a worker and back."""
    sent = sum(len(item) if isinstance(item, bytes | str) else item.nbytes for item in stored)
    return sent + block.thumbnails.nbytes + block.looks.nbytes + sum(canvases.nbytes for canvases in block.canvases)


def _context(*, with_torch: bool) -> BaseContext:
    """Return the context that starts processes: forked from a server with the decoder and without threads, spawned on Windows."""
    if sys.platform == "win32":
        return _SpawnContext()
    multiprocessing.set_forkserver_preload([*PRELOADED_MODULES, "torch"] if with_torch else list(PRELOADED_MODULES))
    return _ForkContext()


@contextmanager
def _without_main() -> Generator[None]:
    """Hide the user's script while a process starts; the new process would otherwise run the script again."""
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
