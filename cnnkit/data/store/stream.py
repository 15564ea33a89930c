"""Canvases by rows: from memory, from the store on the disk, or decoded at each access (``--cache none``)."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.source import Record, Source
from cnnkit.data.store.facts import Facts
from cnnkit.data.store.pool import DecodingPool
from cnnkit.data.store.store import Mapped, StoredRows, canvas_shape
from cnnkit.errors import DataError

if TYPE_CHECKING:
    from cnnkit.model.preprocessing import Preprocessing


class StreamedCanvases:
    """The canvases (N, C, S, S) of `records`, decoded by worker processes a few batches ahead, with the same bytes as in a store."""

    def __init__(self, source: Source, records: Sequence[Record], facts: Sequence[Facts], geometry: Preprocessing, workers: int) -> None:
        self._source = source
        self._records = records
        self._facts = facts
        self._geometry = geometry
        self._workers = workers
        self.shape = canvas_shape(len(records), geometry)

    def batches(self, parts: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.uint8]]:
        """Yield the canvases (n, C, S, S) of each array of rows; raises `DataError` if a file has changed since the scan."""
        asked = list(parts)
        rows = np.concatenate(asked) if asked else np.empty(0, np.int64)
        with DecodingPool(self._source, (self._geometry,), self._workers, measured=False) as pool:
            blocks = pool.blocks(self._records[int(row)] for row in rows)
            ready = np.empty((0, *self.shape[1:]), np.uint8)
            position = 0
            for part in asked:
                while len(ready) < len(part):
                    block = next(blocks)
                    for facts, row in zip(block.facts, rows[position:], strict=False):
                        self._check(facts, int(row))
                    position += len(block.facts)
                    ready = np.concatenate([ready, block.canvases[0]])
                yield ready[: len(part)]
                ready = ready[len(part) :]

    def _check(self, now: Facts, row: int) -> None:
        path = self._records[row].path
        if now.error:
            raise DataError(f"{self._source.name}: {path} was readable in the scan and is not any more: {now.error}; restore it")
        if now.sha256 != self._facts[row].sha256:
            raise DataError(f"{self._source.name}: {path} has changed since it was scanned; restore it, or start a new run")


BATCH_ROWS = 256  # rows at a time in a pass over all rows, which limits memory: 256 canvases of 224 px are 39 MB
# Largest memory map of a store, which counts as memory of this process. Rows of a larger store are read: 3 instead of 1 CPU-us at 32 px.
MAX_MAPPED_BYTES = 2**27
Canvases = Mapped | StreamedCanvases


def in_batches(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return rows in equal parts of at most `BATCH_ROWS`; without rows, return one empty part."""
    return np.array_split(rows, max(1, -(-len(rows) // BATCH_ROWS)))


def gather(canvases: Canvases, parts: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.uint8]]:
    """Yield the canvases (n, C, S, S) of each array of rows, from memory, from the store's file or by decoding.

    The pages of a memory map count as memory of this process, so a file larger than `MAX_MAPPED_BYTES` is read instead. Raises
    `DataError` if that file is truncated.
    """
    if isinstance(canvases, StreamedCanvases):
        return canvases.batches(parts)
    if isinstance(canvases, StoredRows):
        return gather(canvases.array, (canvases.index[part] for part in parts))
    if isinstance(canvases, np.memmap) and isinstance(canvases.base, mmap.mmap) and canvases.nbytes > MAX_MAPPED_BYTES:
        return _read(canvases, parts)
    return _copied(canvases, parts)


def _copied(canvases: NDArray[np.uint8], parts: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.uint8]]:
    return (np.ascontiguousarray(canvases[part]) for part in parts)


def _read(canvases: np.memmap[Any, np.dtype[np.uint8]], parts: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.uint8]]:
    """Yield rows from the file of the memory map `canvases`."""
    size = canvases.nbytes // len(canvases)
    try:
        file = Path(str(canvases.filename)).open("rb", buffering=0)  # noqa: SIM115 (closed below)
    except FileNotFoundError:  # ``cnnkit cache --clear`` removed the file, but the map still holds its data
        yield from _copied(canvases, parts)
        return
    with file:
        for part in parts:
            block = np.empty((len(part), *canvases.shape[1:]), np.uint8)
            for index, row in enumerate(part.tolist()):
                file.seek(canvases.offset + row * size)
                if file.readinto(block[index]) != size:
                    raise DataError(f"{file.name}: the store of decoded images is truncated; remove it with: cnnkit cache --clear")
            yield block
