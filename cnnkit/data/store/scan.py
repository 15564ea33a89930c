"""The scan, which decodes every image once and keeps its facts, its thumbnail and the canvas that the model sees.

A scan reuses the cache: the whole store if no image has changed, else the rows of unchanged images, by path, size and modification
time.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import psutil
from numpy.typing import NDArray

from cnnkit.data.source import Record, Source
from cnnkit.data.store import store
from cnnkit.data.store.facts import THUMBNAIL_SIZE, Facts
from cnnkit.data.store.pool import FIRST_CHUNK_IMAGES, DecodingPool, stop_server
from cnnkit.data.store.store import ArrayWriter, Store, canvas_file, canvas_shape
from cnnkit.data.store.stream import Canvases, StreamedCanvases
from cnnkit.errors import DataError

if TYPE_CHECKING:
    from cnnkit.model.preprocessing import Preprocessing

COPY_ROWS = 4096  # rows of an earlier store that are copied at a time
MAX_DISK_SHARE = 0.9  # of the free disk that a store may take
MAX_MEMORY_SHARE = 0.5  # of the free memory that canvases may take: the other half is for the training
SERVER_STOP_IMAGES = 20_000  # after decoding this number of images the workers' server ends; its 2 s of a new start are then small
Cache = Literal["auto", "ram", "disk", "none"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Scan:
    """Results for every record, row by row: facts, thumbnails uint8 (N, T, T, 3) and, with a geometry, canvases.

    `folder` is the store on the disk, or None. `reused` is true if no image was decoded.
    """

    facts: tuple[Facts, ...]
    thumbnails: NDArray[np.uint8]
    canvases: Canvases | None
    folder: Path | None
    reused: bool

    @property
    def bad(self) -> list[int]:
        """The rows of unreadable images; their canvases are black and must not be used."""
        return [row for row, item in enumerate(self.facts) if item.error]

    @property
    def storage(self) -> str:
        """The storage of the canvases, in words."""
        if self.canvases is None or isinstance(self.canvases, StreamedCanvases):
            return "decoded again in every epoch"
        size = f"{self.canvases.nbytes / 1e6:,.0f} MB decoded"
        if self.folder is None:
            return f"{size}, in memory"
        return f"{size}, {'found' if self.reused else 'now'} in the cache"


class Sink(Protocol):
    """A target for decoded rows."""

    def put(self, rows: NDArray[np.int64], values: NDArray[np.uint8]) -> None:
        """Store `values` (n, ...) as `rows` (n,)."""
        ...


class MemorySink:
    """A sink in memory."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.array = np.zeros(shape, np.uint8)

    def put(self, rows: NDArray[np.int64], values: NDArray[np.uint8]) -> None:
        """Store `values` (n, ...) as `rows` (n,)."""
        self.array[rows] = values


def scan(
    source: Source,
    records: Sequence[Record],
    geometry: Preprocessing | None = None,
    *,
    cache: Cache = "auto",
    workers: int = 0,
    progress: Progress | None = None,
) -> Scan:
    """Return the scan of `records`, from the cache or by decoding; with a `geometry` also their canvases.

    `progress(done, total)` is called during decoding. Raises `DataError` if the canvases do not fit into the storage `cache`.
    """
    keys = [(record.path, source.stamp(record)) for record in records]
    folder = store.store_folder(source, records, [stamp for _, stamp in keys])
    found = store.open_store(folder)
    size = math.prod(canvas_shape(len(records), geometry)) if geometry else 0
    storage = _choose_storage(cache, folder, size + (0 if found else store.facts_nbytes(len(records))), size)
    kept = found.canvases(geometry) if found and geometry else None
    if found:
        store.mark_used(folder)
    if found and (geometry is None or kept is not None or storage == "none"):
        if storage == "none" and geometry and kept is None:
            return Scan(
                found.facts, found.thumbnails, StreamedCanvases(source, records, found.facts, geometry, workers), folder, reused=False
            )
        canvases = np.array(kept) if cache == "ram" and kept is not None else kept
        return Scan(found.facts, found.thumbnails, canvases, folder, reused=True)
    work = _ScanPass(source, records, keys, geometry, workers, progress)
    if storage == "disk":
        return work.to_disk(folder, found)
    return work.to_memory(with_canvases=storage == "ram")


def find_scan(source: Source, records: Sequence[Record], geometry: Preprocessing | None = None) -> Scan | None:
    """Return the scan of `records` from the cache; None if the cache has no scan of exactly these images in their present state.

    With a `geometry`, the cache must hold their canvases too.
    """
    folder = store.store_folder(source, records, [source.stamp(record) for record in records])
    found = store.open_store(folder)
    kept = found.canvases(geometry) if found and geometry else None
    if found is None or (geometry and kept is None):
        return None
    store.mark_used(folder)
    return Scan(found.facts, found.thumbnails, kept, folder, reused=True)


def reopen_scan(known: Scan, geometry: Preprocessing) -> Scan | None:
    """Return `known` with the thumbnails and the canvases of `geometry` from its store; None if the store lacks them."""
    if known.folder is None:
        return None
    thumbnails = store.open_thumbnails(known.folder, len(known.facts))
    canvases = store.open_canvases(known.folder, len(known.facts), geometry)
    return None if thumbnails is None or canvases is None else replace(known, thumbnails=thumbnails, canvases=canvases)


@dataclass(frozen=True)
class _ScanPass:
    """One pass over `records`, whose (path, stamp) are `keys`."""

    source: Source
    records: Sequence[Record]
    keys: list[tuple[str, str]]
    geometry: Preprocessing | None
    workers: int
    progress: Progress | None

    def to_disk(self, folder: Path, found: Store | None) -> Scan:
        """Write a store, or add canvases to the store `found`."""
        assert self.geometry is not None or found is None  # noqa: S101 (a whole store has facts)
        total = 0 if self.geometry is None else math.prod(canvas_shape(len(self.records), self.geometry))
        with _disk_errors(folder, total):
            part = store.new_part(folder)
            try:
                facts = self._write(part, store.earlier_stores(folder) if found is None else ())
                if found and self.geometry:
                    (part / canvas_file(self.geometry)).replace(folder / canvas_file(self.geometry))
                else:
                    store.write_facts(part, self.source, self.keys, facts)
                    store.publish(part, folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        made = store.open_store(folder)
        kept = made.canvases(self.geometry) if made and self.geometry else None
        if made is None or (self.geometry and kept is None):
            raise DataError(f"{folder}: the new store of decoded images cannot be read back; use --cache ram")
        return Scan(made.facts, made.thumbnails, kept, folder, reused=False)

    def _write(self, part: Path, earlier: Iterable[Store]) -> list[Facts]:
        """Write thumbnails and canvases into the folder `part`."""
        with ExitStack() as files:
            thumbnails = files.enter_context(ArrayWriter(part / store.THUMBNAILS_FILE, self._thumbnail_shape()))
            canvases = None
            if self.geometry:
                canvases = files.enter_context(
                    ArrayWriter(part / canvas_file(self.geometry), canvas_shape(len(self.records), self.geometry))
                )
            return self._fill(thumbnails, canvases, earlier)

    def to_memory(self, *, with_canvases: bool) -> Scan:
        """Keep facts, thumbnails and, if `with_canvases`, the canvases in memory; write nothing."""
        thumbnails = MemorySink(self._thumbnail_shape())
        canvases = MemorySink(canvas_shape(len(self.records), self.geometry)) if with_canvases and self.geometry else None
        facts = tuple(self._fill(thumbnails, canvases, ()))
        if canvases:
            return Scan(facts, thumbnails.array, canvases.array, None, reused=False)
        streamed = StreamedCanvases(self.source, self.records, facts, self.geometry, self.workers) if self.geometry else None
        return Scan(facts, thumbnails.array, streamed, None, reused=False)

    def _thumbnail_shape(self) -> tuple[int, int, int, int]:
        return len(self.records), THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3

    def _fill(self, thumbnails: Sink, canvases: Sink | None, earlier: Iterable[Store]) -> list[Facts]:
        """Put every row into the sinks, from an `earlier` store if it has the row, else by decoding; return the facts."""
        facts = [Facts()] * len(self.records)
        todo = np.arange(len(self.records))
        for old in earlier:
            if not len(todo):
                break
            todo = self._copy(old, todo, facts, thumbnails, canvases)
        decoding = len(todo)
        done = len(facts) - decoding
        geometry = self.geometry if canvases else None
        busy = max(1, -(-len(todo) // FIRST_CHUNK_IMAGES))  # more workers would have nothing to do
        with DecodingPool(self.source, geometry, min(self.workers or os.cpu_count() or 1, busy)) as pool:
            for block in pool.blocks(self.records[int(row)] for row in todo):
                rows = todo[: len(block.facts)]
                todo = todo[len(rows) :]
                for row, item in zip(rows, block.facts, strict=True):
                    facts[row] = item
                thumbnails.put(rows, block.thumbnails)
                if canvases and block.canvases is not None:
                    canvases.put(rows, block.canvases)
                done += len(rows)
                if self.progress:
                    self.progress(done, len(facts))
        if canvases and decoding >= SERVER_STOP_IMAGES:
            stop_server()
        return facts

    def _copy(self, old: Store, todo: NDArray[np.int64], facts: list[Facts], thumbnails: Sink, canvases: Sink | None) -> NDArray[np.int64]:
        """Copy the rows of `todo` that are in the store `old`; return the other rows."""
        kept = old.canvases(self.geometry) if canvases and self.geometry else None
        if canvases and kept is None:
            return todo
        old_row = {key: row for row, key in enumerate(old.keys)}
        old_rows = np.array([old_row.get(self.keys[row], -1) for row in todo], dtype=np.int64)
        for start in range(0, len(todo), COPY_ROWS):
            part = slice(start, start + COPY_ROWS)
            rows, sources = todo[part][old_rows[part] >= 0], old_rows[part][old_rows[part] >= 0]
            for row, source in zip(rows, sources, strict=True):
                facts[row] = old.facts[source]
            thumbnails.put(rows, old.thumbnails[sources])
            if canvases and kept is not None:
                canvases.put(rows, kept[sources])
        return todo[old_rows < 0]


def _choose_storage(cache: Cache, folder: Path, on_disk: int, in_memory: int) -> Literal["disk", "ram", "none"]:
    """Return the storage of canvases: `cache`, or for auto the disk, else memory, else none, by free space."""
    if cache == "ram":
        free = free_memory()
        if in_memory > MAX_MEMORY_SHARE * free:
            raise DataError(
                f"--cache ram: the decoded images take {in_memory / 1e9:.1f} GB, more than half of the {free / 1e9:.1f} GB of free memory; "
                f"use --cache disk, or --cache none to decode them again in every epoch"
            )
    if cache != "auto":
        return cache
    if _has_room(folder, on_disk):
        return "disk"
    return "ram" if in_memory <= MAX_MEMORY_SHARE * free_memory() else "none"


def free_memory() -> int:
    """Return the free memory of this machine or container, in bytes."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text("ascii").strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text("ascii").strip()
    except OSError:
        return free
    return min(free, int(limit) - int(used)) if limit.isdecimal() else free


def _has_room(folder: Path, size: int) -> bool:
    """Return True if the disk of `folder` can store `size` bytes."""
    parent = folder
    while not parent.exists():
        parent = parent.parent
    return parent.is_dir() and os.access(parent, os.W_OK) and shutil.disk_usage(parent).free * MAX_DISK_SHARE > size


@contextmanager
def _disk_errors(folder: Path, size: int) -> Generator[None]:
    """Turn an `OSError` of writing the store into a `DataError` with advice."""
    try:
        yield
    except OSError as error:
        reason = "no space is left" if error.errno == errno.ENOSPC else (error.strerror or str(error))
        raise DataError(
            f"{folder.parent}: the store of decoded images ({size / 1e6:.0f} MB) cannot be written there: {reason}; "
            f"free some space, point CNNKIT_CACHE to a folder on another disk, or use --cache ram or --cache none"
        ) from None
