"""The decoding of the images that a store lacks, into the store or into memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.progress import Progress, say_to
from cnnkit.data.source import Record, Source
from cnnkit.data.store.decoding import Block
from cnnkit.data.store.facts import Facts
from cnnkit.data.store.index import KeyColumns
from cnnkit.data.store.pool import FIRST_CHUNK_IMAGES, DecodingPool, stop_server
from cnnkit.data.store.store import COPY_ROWS, LOOK_SHAPE, THUMBNAIL_SHAPE, Rows, Store, canvas_file, canvas_shape, open_rows
from cnnkit.data.store.writer import StoreWriter

if TYPE_CHECKING:
    from cnnkit.model.preprocessing import Preprocessing

SERVER_STOP_IMAGES = 20_000  # after decoding this number of images the workers' server ends; its 2 s of a new start are then small
SAMPLE_SECONDS = 10.0  # of decoding, after which the time of the rest is estimated
LONG_SECONDS = 600.0  # of the rest, which is then announced
Geometries = Sequence["Preprocessing"]


class Target(Protocol):
    """A target of decoded images; `places` (n,) are their positions among the records of the scan."""

    def append(self, places: Rows, block: Block, geometries: Geometries) -> None:
        """Keep images that were not known, with their canvases of `geometries`."""
        ...

    def fill(self, places: Rows, canvases: NDArray[np.uint8]) -> None:
        """Keep the canvases (n, C, S, S) of images that were known."""
        ...


class StoreTarget:
    """The store behind `writer` as a target; `rows` (N,) are the rows of the images, -1 for an image without one.

    The canvases of known unreadable images are black, so they count as made at once.
    """

    def __init__(self, writer: StoreWriter, store: Store, rows: Rows, keys: KeyColumns, geometry: Preprocessing | None) -> None:
        self._writer, self._rows, self._keys, self._geometry = writer, rows, keys, geometry
        if geometry is not None:
            lacking = rows[lacking_places(store, rows, geometry)]
            bad = lacking[~store.facts.take(lacking).readable]
            if len(bad):
                writer.fill(bad, geometry, None)

    def append(self, places: Rows, block: Block, geometries: Geometries) -> None:
        """Write new rows."""
        keys = list(self._keys.take(places))
        canvases = dict(zip(geometries, block.canvases, strict=True))
        self._writer.append(keys, block.facts, block.thumbnails, block.looks, canvases)
        self._writer.commit_in_time()

    def fill(self, places: Rows, canvases: NDArray[np.uint8]) -> None:
        """Write canvases of known rows."""
        assert self._geometry is not None  # noqa: S101 (known images lack nothing else)
        self._writer.fill(self._rows[places], self._geometry, canvases)
        self._writer.commit_in_time()


class MemoryTarget:
    """Arrays in memory as a target, which begin with everything that `store` has in the `rows` (N,) of the images."""

    def __init__(self, store: Store | None, rows: Rows, geometry: Preprocessing | None) -> None:
        count = len(rows)
        self.facts: list[Facts] = [Facts()] * count
        self.thumbnails = np.zeros((count, *THUMBNAIL_SHAPE), np.uint8)
        self.looks = np.zeros((count, *LOOK_SHAPE), np.uint8)
        self.canvases = np.zeros(canvas_shape(count, geometry), np.uint8) if geometry else None
        if store is not None:
            self._copy(store, rows, geometry)

    def append(self, places: Rows, block: Block, geometries: Geometries) -> None:
        """Keep new images."""
        for place, item in zip(places.tolist(), block.facts, strict=True):
            self.facts[place] = item
        self.thumbnails[places], self.looks[places] = block.thumbnails, block.looks
        if geometries:
            self.fill(places, block.canvases[0])

    def fill(self, places: Rows, canvases: NDArray[np.uint8]) -> None:
        """Keep canvases."""
        assert self.canvases is not None  # noqa: S101 (canvases are made only for a geometry)
        self.canvases[places] = canvases

    def _copy(self, store: Store, rows: Rows, geometry: Preprocessing | None) -> None:
        known = np.flatnonzero(rows >= 0)
        thumbnails, looks = store.thumbnails, store.looks
        for start in range(0, len(known), COPY_ROWS):
            places = known[start : start + COPY_ROWS]
            self.thumbnails[places], self.looks[places] = thumbnails[rows[places]], looks[rows[places]]
            for place, item in zip(places.tolist(), store.facts.take(rows[places]), strict=True):
                self.facts[place] = item
        if geometry is None:
            return
        made = known[store.has_canvases(rows[known], geometry)]
        stored = open_rows(store.folder, canvas_file(geometry), canvas_shape(1, geometry)[1:], rows[made], len(made))
        for start in range(0, len(made) if stored is not None else 0, COPY_ROWS):
            part = np.arange(start, min(start + COPY_ROWS, len(made)))
            self.fill(made[part], stored[part] if stored is not None else np.empty(0, np.uint8))


def lacking_places(store: Store, rows: Rows, geometry: Preprocessing) -> Rows:
    """Return the places of the images that are in `store`, in `rows` (N,), and have no canvas of `geometry`."""
    known = np.flatnonzero(rows >= 0)
    return known[~store.has_canvases(rows[known], geometry)]


@dataclass(frozen=True)
class Missing:
    """The images and the canvases of `geometry` of `records` that a store may lack.

    If `progress` has a method `say`, it gets an estimate of a long decoding, in which `nbytes` are the bytes that it adds to the cache.
    """

    source: Source
    records: Sequence[Record]
    geometry: Preprocessing | None
    workers: int
    progress: Progress | None
    nbytes: int = 0

    def decode(self, target: Target, store: Store | None, rows: Rows, geometries: Geometries) -> int:
        """Decode the images without a row in `rows` (N,), with canvases of `geometries`, and the other images without a canvas.

        A known image whose content has changed under the same stamp is a new image. Return the number of decoded images.
        """
        new, lacking = np.flatnonzero(rows < 0), np.empty(0, np.int64)
        if store is not None and self.geometry is not None and self.geometry in geometries:
            lacking = lacking_places(store, rows, self.geometry)
            lacking = lacking[store.facts.take(rows[lacking]).readable]
        total = len(new) + len(lacking)
        done = known = len(rows) - total
        announce = self._announcement(total)
        changed: list[int] = []
        for places, block in self._blocks(lacking, geometries[:1], measured=False):
            assert store is not None  # noqa: S101 (only images of a store lack nothing but a canvas)
            contents = store.facts.take(rows[places]).hashes
            same = np.array([item.sha256 == content for item, content in zip(block.facts, contents, strict=True)])
            target.fill(places[same], block.canvases[0][same])
            changed += places[~same].tolist()
            done += int(same.sum())
            announce(done - known)
            self._tell(done, len(rows))
        for places, block in self._blocks(np.concatenate([new, np.array(changed, np.int64)]), geometries, measured=True):
            target.append(places, block, geometries)
            done += len(places)
            announce(done - known)
            self._tell(done, len(rows))
        if self.geometry is not None and total >= SERVER_STOP_IMAGES:
            stop_server()
        return total

    def _tell(self, done: int, total: int) -> None:
        if self.progress:
            self.progress(done, total)

    def _announcement(self, total: int) -> Callable[[int], None]:
        """Return a function of the number of decoded images, which announces once that the rest of `total` images takes long."""
        started, told = time.monotonic(), False

        def announce(decoded: int) -> None:
            nonlocal told
            elapsed = time.monotonic() - started
            if told or elapsed < SAMPLE_SECONDS or not decoded:
                return
            told = True
            rest = elapsed / decoded * (total - decoded)
            if rest >= LONG_SECONDS:
                amount = f", and {self.nbytes / 1e9:,.1f} GB in the cache" if self.nbytes else ""
                say_to(
                    self.progress,
                    f"decoding {total:,} images takes about {rest / 3600:,.1f} hours on this machine ({decoded / elapsed:,.0f} images/s)"
                    f"{amount}; an interrupted command goes on where it stopped",
                )

        return announce

    def _blocks(self, places: Rows, geometries: Geometries, *, measured: bool) -> Iterator[tuple[Rows, Block]]:
        """Decode the records at `places`, and yield the blocks with their places."""
        busy = max(1, -(-len(places) // FIRST_CHUNK_IMAGES))  # more workers would have nothing to do
        with DecodingPool(self.source, geometries, min(self.workers or os.cpu_count() or 1, busy), measured=measured) as pool:
            start = 0
            for block in pool.blocks(self.records[place] for place in places.tolist()):
                yield places[start : start + len(block.facts)], block
                start += len(block.facts)
