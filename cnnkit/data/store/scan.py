"""The scan, which decodes every image once and keeps its facts, its thumbnail, its look and the canvas that the model sees.

A scan reuses the cache: the whole store if no image has changed, else the rows of unchanged images, by path, size and modification
time.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import psutil
from numpy.typing import NDArray

from cnnkit.data.image import UndecodableError
from cnnkit.data.source import Record, Source
from cnnkit.data.store.facts import Facts, content_hash
from cnnkit.data.store.pool import FIRST_CHUNK_IMAGES, DecodingPool, stop_server
from cnnkit.data.store.store import (
    ScanStore,
    Sinks,
    Store,
    canvas_shape,
    facts_nbytes,
    look_shape,
    open_canvases,
    open_looks,
    open_thumbnails,
    thumbnail_shape,
)
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
    """Results for every record, row by row: facts, thumbnails uint8 (N, T, T, 3), looks uint8 (N, L, L) and, with a geometry, canvases.

    `folder` is the store on the disk, or None. `reused` is true if no image was decoded.
    """

    facts: tuple[Facts, ...]
    thumbnails: NDArray[np.uint8]
    looks: NDArray[np.uint8]
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
    store = ScanStore(source, records)
    found, kept = store.content, store.canvases(geometry)
    size = math.prod(canvas_shape(len(records), geometry)) if geometry else 0
    storage = _choose_storage(cache, store.folder, size + (0 if found else facts_nbytes(len(records))), size)
    if found and (geometry is None or kept is not None):
        canvases = np.array(kept) if cache == "ram" and kept is not None else kept
        return Scan(found.facts, found.thumbnails, found.looks, canvases, store.folder, reused=True)
    if found and geometry and storage == "none":
        streamed = StreamedCanvases(source, records, found.facts, geometry, workers)
        return Scan(found.facts, found.thumbnails, found.looks, streamed, store.folder, reused=False)
    work = _ScanPass(source, records, store.keys, geometry, workers, progress)
    if storage != "disk":
        return work.to_memory(with_canvases=storage == "ram")
    with _disk_errors(store.folder, size):
        made = store.write(geometry, work.fill)
    return Scan(made.facts, made.thumbnails, made.looks, made.canvases(geometry) if geometry else None, store.folder, reused=False)


def find_scan(source: Source, records: Sequence[Record], geometry: Preprocessing | None = None) -> Scan | None:
    """Return the scan of `records` from the cache; None if the cache has no scan of exactly these images in their present state.

    With a `geometry`, the cache must hold their canvases too.
    """
    store = ScanStore(source, records)
    found, kept = store.content, store.canvases(geometry)
    if found is None or (geometry and kept is None):
        return None
    return Scan(found.facts, found.thumbnails, found.looks, kept, store.folder, reused=True)


def find_contents(source: Source, records: Sequence[Record], progress: Progress | None = None) -> list[str]:
    """Return the SHA-256 (hex) of every record, from the cache or by reading without decoding; empty if a record cannot be read."""

    def content(record: Record) -> str:
        try:
            return content_hash(source.read(record))
        except UndecodableError:
            return ""

    found = find_scan(source, records)
    if found is not None:
        return [item.sha256 for item in found.facts]
    contents: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for each in threads.map(content, records):
            contents.append(each)
            if progress:
                progress(len(contents), len(records))
    return contents


def reopen_scan(known: Scan, geometry: Preprocessing) -> Scan | None:
    """Return `known` with the thumbnails, the looks and the canvases of `geometry` from its store; None if the store lacks them."""
    if known.folder is None:
        return None
    thumbnails, looks = (read(known.folder, len(known.facts)) for read in (open_thumbnails, open_looks))
    canvases = open_canvases(known.folder, len(known.facts), geometry)
    if thumbnails is None or looks is None or canvases is None:
        return None
    return replace(known, thumbnails=thumbnails, looks=looks, canvases=canvases)


@dataclass(frozen=True)
class _ScanPass:
    """One pass over `records`, whose (path, stamp) are `keys`."""

    source: Source
    records: Sequence[Record]
    keys: Sequence[tuple[str, str]]
    geometry: Preprocessing | None
    workers: int
    progress: Progress | None

    def to_memory(self, *, with_canvases: bool) -> Scan:
        """Keep facts, thumbnails, looks and, if `with_canvases`, the canvases in memory; write nothing."""
        thumbnails, looks = MemorySink(thumbnail_shape(len(self.records))), MemorySink(look_shape(len(self.records)))
        canvases = MemorySink(canvas_shape(len(self.records), self.geometry)) if with_canvases and self.geometry else None
        facts = tuple(self.fill(Sinks(thumbnails, looks, canvases), ()))
        if canvases:
            return Scan(facts, thumbnails.array, looks.array, canvases.array, None, reused=False)
        streamed = StreamedCanvases(self.source, self.records, facts, self.geometry, self.workers) if self.geometry else None
        return Scan(facts, thumbnails.array, looks.array, streamed, None, reused=False)

    def fill(self, sinks: Sinks, earlier: Iterable[Store]) -> list[Facts]:
        """Put every row into the sinks, from an `earlier` store if it has the row, else by decoding; return the facts."""
        facts = [Facts()] * len(self.records)
        todo = np.arange(len(self.records))
        for old in earlier:
            if not len(todo):
                break
            todo = self._copy(old, todo, facts, sinks)
        decoding = len(todo)
        done = len(facts) - decoding
        geometry = self.geometry if sinks.canvases else None
        busy = max(1, -(-len(todo) // FIRST_CHUNK_IMAGES))  # more workers would have nothing to do
        with DecodingPool(self.source, geometry, min(self.workers or os.cpu_count() or 1, busy)) as pool:
            for block in pool.blocks(self.records[int(row)] for row in todo):
                rows = todo[: len(block.facts)]
                todo = todo[len(rows) :]
                for row, item in zip(rows, block.facts, strict=True):
                    facts[row] = item
                sinks.thumbnails.put(rows, block.thumbnails)
                sinks.looks.put(rows, block.looks)
                if sinks.canvases and block.canvases is not None:
                    sinks.canvases.put(rows, block.canvases)
                done += len(rows)
                if self.progress:
                    self.progress(done, len(facts))
        if sinks.canvases and decoding >= SERVER_STOP_IMAGES:
            stop_server()
        return facts

    def _copy(self, old: Store, todo: NDArray[np.int64], facts: list[Facts], sinks: Sinks) -> NDArray[np.int64]:
        """Copy the rows of `todo` that are in the store `old`; return the other rows."""
        kept = old.canvases(self.geometry) if sinks.canvases and self.geometry else None
        if sinks.canvases and kept is None:
            return todo
        old_row = {key: row for row, key in enumerate(old.keys)}
        old_rows = np.array([old_row.get(self.keys[row], -1) for row in todo], dtype=np.int64)
        for start in range(0, len(todo), COPY_ROWS):
            part = slice(start, start + COPY_ROWS)
            rows, sources = todo[part][old_rows[part] >= 0], old_rows[part][old_rows[part] >= 0]
            for row, source in zip(rows, sources, strict=True):
                facts[row] = old.facts[source]
            sinks.thumbnails.put(rows, old.thumbnails[sources])
            sinks.looks.put(rows, old.looks[sources])
            if sinks.canvases and kept is not None:
                sinks.canvases.put(rows, kept[sources])
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
