"""The scan, which decodes every image once and keeps its facts, its thumbnail, its look and the canvas that the model sees.

A scan decodes only images that the store of the source does not have, by path, size and modification time. If an image lacks only
the canvas of a geometry, it is decoded without being measured again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import psutil

from cnnkit.data.image import UndecodableError
from cnnkit.data.progress import Progress, say_to
from cnnkit.data.source import Record, Source
from cnnkit.data.store.cache import given_limit, keep_limit, limit
from cnnkit.data.store.facts import content_hash
from cnnkit.data.store.filling import MemoryTarget, Missing, StoreTarget
from cnnkit.data.store.index import FactColumns, KeyColumns
from cnnkit.data.store.locks import hold
from cnnkit.data.store.store import (
    LOOK_SHAPE,
    LOOKS_FILE,
    THUMBNAIL_SHAPE,
    THUMBNAILS_FILE,
    Mapped,
    Rows,
    Store,
    canvas_file,
    canvas_shape,
    facts_nbytes,
    find_store,
    holds_in_order,
    keys_of,
    open_rows,
    row_nbytes,
    stores_folder,
)
from cnnkit.data.store.stream import Canvases, StreamedCanvases
from cnnkit.data.store.writer import open_writer
from cnnkit.errors import DataError

if TYPE_CHECKING:
    from cnnkit.model.preprocessing import Preprocessing

MAX_DISK_SHARE = 0.9  # of the free disk that a scan may take
MAX_MEMORY_SHARE = 0.5  # of the free memory that canvases may take: the other half is for the training
USUAL_SHARE = 0.5  # of the rows of a store: canvases that more rows have are made for new images too
Cache = Literal["auto", "ram", "disk", "none"]
STORAGES = {"ram": "kept in memory", "none": "decoded again in every epoch"}  # in words


@dataclass(frozen=True)
class Scan:
    """Results for every record, row by row: facts, thumbnails uint8 (N, T, T, 3), looks uint8 (N, L, L) and, with a geometry, canvases.

    `folder` is the store on the disk, or None. `reused` is true if no image was decoded. `rows` (N,) are the rows in the store, None
    for the first N in order. `kept` names the files of canvases that have all of them.
    """

    facts: FactColumns
    thumbnails: Mapped
    looks: Mapped
    canvases: Canvases | None
    folder: Path | None
    reused: bool
    rows: Rows | None = None
    kept: frozenset[str] = frozenset()

    @property
    def bad(self) -> list[int]:
        """The rows of unreadable images; their canvases are black and must not be used."""
        return np.flatnonzero(~self.facts.readable).tolist()

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256, in hex, of the contents in order: the key of results that are cached in the store."""
        digest = hashlib.sha256()
        for index, content in enumerate(self.facts.hashes):
            digest.update((f"\n{content}" if index else content).encode())
        return digest.hexdigest()

    @property
    def storage(self) -> str:
        """The storage of the canvases, in words."""
        if self.canvases is None or isinstance(self.canvases, StreamedCanvases):
            return STORAGES["none"]
        size = f"{self.canvases.nbytes / 1e6:,.0f} MB decoded"
        if self.folder is None:
            return f"{size}, in memory"
        return f"{size}, {'found' if self.reused else 'now'} in the cache"


def scan(
    source: Source,
    records: Sequence[Record],
    geometry: Preprocessing | None = None,
    *,
    also: Sequence[Preprocessing] = (),
    cache: Cache = "auto",
    workers: int = 0,
    progress: Progress | None = None,
) -> Scan:
    """Return the scan of `records`, from the cache or by decoding; with a `geometry` also their canvases.

    An image that must be decoded gets the canvases of the geometries `also` in the store too, for a later command.
    `progress(done, total)` is called during decoding. Raises `DataError` if the canvases do not fit into the storage `cache`.
    """
    store = find_store(source.name)
    rows = _rows(store, source, records)
    found = _found(store, rows, geometry) if store else None
    if found is not None:
        if cache != "ram" or found.canvases is None or isinstance(found.canvases, StreamedCanvases):
            return found
        return replace(found, canvases=np.array(found.canvases[:]))
    canvas = row_nbytes(canvas_shape(1, geometry)) if geometry else 0
    has_canvas = store.has_canvases(rows, geometry) & (rows >= 0) if store and geometry else np.zeros(len(rows), np.bool_)
    on_disk = facts_nbytes(int((rows < 0).sum())) + canvas * int((~has_canvas).sum())
    storage = _choose_storage(cache, on_disk, canvas * len(rows))
    if cache == "auto" and storage != "disk" and _is_beyond_limit(on_disk):
        say_to(progress, f"{_limit_sentence(on_disk)}, so they are {STORAGES[storage]}")
    ahead = sum(row_nbytes(canvas_shape(1, other)) for other in _geometries(geometry, also, store)) - canvas  # for later commands
    added = on_disk + ahead * int((rows < 0).sum()) if storage == "disk" else 0
    task = _Task(Missing(source, records, geometry, workers, progress, added), source, records, keys_of(source, records), geometry)
    if storage == "disk":
        with _disk_errors(on_disk):
            made = task.to_store(also)
        if made is not None:
            return made
        storage = _choose_memory(canvas * len(rows))
    return task.to_memory(store, rows, with_canvases=storage == "ram")


def find_scan(source: Source, records: Sequence[Record], geometry: Preprocessing | None = None) -> Scan | None:
    """Return the scan of `records` from the cache; None if the cache lacks one of these images in its present state.

    With a `geometry`, the cache must have their canvases too.
    """
    store = find_store(source.name)
    if store is None:
        return None
    return _found(store, _rows(store, source, records), geometry)


def _rows(store: Store | None, source: Source, records: Sequence[Record]) -> Rows:
    """Return the row of each of `records` (N,) in `store`, -1 for an image that it does not have."""
    if store is None:
        return np.full(len(records), -1, np.int64)
    return np.arange(len(records)) if holds_in_order(store, source, records) else store.rows_of(keys_of(source, records))


def _found(store: Store, rows: Rows, geometry: Preprocessing | None) -> Scan | None:
    """Return the scan of the images in the `rows` of `store`; None if an image or a canvas is missing."""
    if (rows < 0).any() or (geometry and not store.has_canvases(rows, geometry).all()):
        return None
    index = None if (rows == np.arange(len(rows))).all() else rows
    facts = store.facts if index is None and len(rows) == len(store.facts) else store.facts.take(rows)
    kept = frozenset(name for name, filled in store.filled.items() if filled[rows].all())
    with suppress(OSError):
        os.utime(store.folder)  # the time of the last use
    empty = np.empty(0, np.uint8)
    return _opened(Scan(facts, empty, empty, None, store.folder, reused=True, rows=index, kept=kept), geometry)


def _opened(known: Scan, geometry: Preprocessing | None) -> Scan | None:
    """Return `known` with thumbnails, looks and canvases from its store; None if the store is gone."""
    if known.folder is None:
        return None
    hold(known.folder)
    count = len(known.facts)
    thumbnails = open_rows(known.folder, THUMBNAILS_FILE, THUMBNAIL_SHAPE, known.rows, count)
    looks = open_rows(known.folder, LOOKS_FILE, LOOK_SHAPE, known.rows, count)
    if thumbnails is None or looks is None:
        return None
    opened = replace(known, thumbnails=thumbnails, looks=looks)
    if geometry is None:
        return opened
    canvases = open_rows(known.folder, canvas_file(geometry), canvas_shape(1, geometry)[1:], known.rows, count)
    return None if canvases is None else replace(opened, canvases=canvases)


def find_contents(source: Source, records: Sequence[Record], progress: Progress | None = None) -> list[str]:
    """Return the SHA-256 (hex) of every record, from the cache or by reading without decoding; empty if a record cannot be read."""

    def content(record: Record) -> str:
        try:
            return content_hash(source.read(record))
        except UndecodableError:
            return ""

    found = find_scan(source, records)
    if found is not None:
        return list(found.facts.hashes)
    contents: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for each in threads.map(content, records):
            contents.append(each)
            if progress:
                progress(len(contents), len(records))
    return contents


def reopen_scan(known: Scan, geometry: Preprocessing | None = None) -> Scan | None:
    """Return `known` with the thumbnails, the looks and, with a `geometry`, the canvases of its store, mapped anew.

    Return None if the store lacks them.
    """
    return _opened(known, geometry) if geometry is None or canvas_file(geometry) in known.kept else None


@dataclass(frozen=True)
class _Task:
    """A scan that has to decode; `missing` decodes what a store lacks."""

    missing: Missing
    source: Source
    records: Sequence[Record]
    keys: KeyColumns
    geometry: Preprocessing | None

    def to_store(self, also: Sequence[Preprocessing]) -> Scan | None:
        """Decode what the store lacks into the store; return None if another process holds the store and has stopped."""
        present = {record.path for record in self.source.records}
        with open_writer(self.source.name, present) as opened:
            if opened is None:
                return None
            writer, store = opened
            rows = store.rows_of(self.keys)  # another process may have added images meanwhile
            geometries = _geometries(self.geometry, also, store)
            decoded = self.missing.decode(StoreTarget(writer, store, rows, self.keys, self.geometry), store, rows, geometries)
        made = find_store(self.source.name)
        found = _found(made, made.rows_of(self.keys), self.geometry) if made else None
        if found is None or found.folder is None:
            raise DataError(f"{stores_folder()}: the new store of decoded images cannot be read back; use --cache ram")
        keep_limit([found.folder])
        return replace(found, reused=not decoded)

    def to_memory(self, store: Store | None, rows: Rows, *, with_canvases: bool) -> Scan:
        """Keep facts, thumbnails, looks and, if `with_canvases`, the canvases in memory; write nothing.

        `rows` (N,) are the rows of the images in `store`, -1 for an image that it does not have.
        """
        geometry = self.geometry if with_canvases else None
        memory = MemoryTarget(store, rows, geometry)
        self.missing.decode(memory, store, rows, (geometry,) if geometry else ())
        facts = FactColumns.of(memory.facts)
        canvases: Canvases | None = memory.canvases
        if self.geometry and canvases is None:
            canvases = StreamedCanvases(self.source, self.records, facts, self.geometry, self.missing.workers)
        return Scan(facts, memory.thumbnails, memory.looks, canvases, None, reused=False)


def _geometries(geometry: Preprocessing | None, also: Sequence[Preprocessing], store: Store | None) -> tuple[Preprocessing, ...]:
    """Return the geometries of the canvases of new images: `geometry` first, `also`, and those that most rows of `store` have."""
    filled = store.filled if store else {}
    usual = [store.geometries[name] for name, has in filled.items() if store and len(has) and has.mean() > USUAL_SHARE]
    wanted = (*((geometry,) if geometry else ()), *also, *usual)
    by_file = {canvas_file(each): each for each in reversed(wanted)}  # the first of equal ones stays
    return tuple(dict.fromkeys(by_file[canvas_file(each)] for each in wanted))


def _choose_storage(cache: Cache, on_disk: int, in_memory: int) -> Literal["disk", "ram", "none"]:
    """Return the storage of canvases: `cache`, or for auto the disk, else memory, else none, by free space and the user's limit."""
    if cache == "ram":
        free = free_memory()
        if in_memory > MAX_MEMORY_SHARE * free:
            raise DataError(
                f"--cache ram: the decoded images take {in_memory / 1e9:.1f} GB, more than half of the {free / 1e9:.1f} GB of free memory; "
                f"use --cache disk, or --cache none to decode them again in every epoch"
            )
    if cache == "disk" and _is_beyond_limit(on_disk):
        raise DataError(f"--cache disk: {_limit_sentence(on_disk)}, or use --cache none to decode them again in every epoch")
    if cache != "auto":
        return cache
    fits = not _is_beyond_limit(on_disk) and _has_room(stores_folder(), on_disk)
    return "disk" if fits else _choose_memory(in_memory)


def _is_beyond_limit(size: int) -> bool:
    """Return True if `size` bytes are more than the limit that the user has set for the cache; the default only removes old stores."""
    most = given_limit()
    return most is not None and size > most


def _limit_sentence(size: int) -> str:
    """Return the beginning of a sentence on `size` bytes that are beyond the limit of the cache."""
    needed = -(-size * 11 // 10_000_000)  # MB, with a tenth for what comes next
    return (
        f"the decoded images take {size / 1e6:,.0f} MB, more than the limit of the cache, {limit() / 1e6:,.0f} MB "
        f"(raise it with: cnnkit cache --limit {needed}MB)"
    )


def _choose_memory(size: int) -> Literal["ram", "none"]:
    """Return ram if the free memory can take canvases of `size` bytes, else none."""
    return "ram" if size <= MAX_MEMORY_SHARE * free_memory() else "none"


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
def _disk_errors(size: int) -> Generator[None]:
    """Turn an `OSError` of writing the store into a `DataError` with advice."""
    try:
        yield
    except OSError as error:
        reason = "no space is left" if error.errno == errno.ENOSPC else (error.strerror or str(error))
        raise DataError(
            f"{stores_folder()}: the store of decoded images ({size / 1e6:.0f} MB) cannot be written there: {reason}; "
            f"free some space, point CNNKIT_CACHE to a folder on another disk, or use --cache ram or --cache none"
        ) from None
