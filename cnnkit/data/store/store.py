"""The store on the disk: facts, thumbnails, looks and canvases of the images of one source, so that they are decoded only once.

A store is a folder in the cache, outside the data, and belongs to one source. It only grows: an image has a row, and a new image or a
changed one gets a new row at the end. The files of thumbnails, looks and canvases are plain rows of uint8, one file of canvases for
each geometry. The index (`cnnkit.data.store.index`) holds path, stamp and facts of every row, and the journal the rows that have
canvases. A row counts only if a line of the journal covers it, and that line is written after the row. So a scan that was killed is
continued by the next one, and nothing that was written in part is believed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from cnnkit.data.columns import RecordColumns, encoded
from cnnkit.data.source import Record, Source, located, stamps_of
from cnnkit.data.store import journal
from cnnkit.data.store.facts import LOOK_SIZE, THUMBNAIL_SIZE
from cnnkit.data.store.index import ROW, SEPARATOR, FactColumns, KeyColumns, Words, mapped_texts, read_index
from cnnkit.errors import DataError
from cnnkit.model.preprocessing import Preprocessing

DECODER_VERSION = 6  # raise it when pixels, facts or their files change, so that every store is made again
JOURNAL_FILE, THUMBNAILS_FILE, LOOKS_FILE = "journal.jsonl", "thumbnails.u8", "looks.u8"
THUMBNAIL_SHAPE, LOOK_SHAPE = (THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3), (LOOK_SIZE, LOOK_SIZE)
TEXT_BYTES = 100  # of path and stamp of an image, for an estimate
COPY_ROWS = 4096  # rows of a store that are copied at a time
GENERATION_DIGITS = 4  # of the number of a store in its name
Rows = NDArray[np.int64]


def cache_folder() -> Path:
    """Return the folder of the cache: ``$CNNKIT_CACHE``, or the user's cache folder of the system.

    Raises `DataError` for a user without a home, such as a number in a container.
    """
    given = os.environ.get("CNNKIT_CACHE")
    try:
        return Path(given or platformdirs.user_cache_dir("cnnkit"))
    except (RuntimeError, KeyError):
        raise DataError("this user has no home, so there is no folder for the cache; name one: CNNKIT_CACHE=FOLDER") from None


def stores_folder() -> Path:
    """Return the folder of all stores."""
    return cache_folder() / "stores"


@dataclass(frozen=True, eq=False)
class StoredRows:
    """The rows `index` (N,) of a memory-mapped `array` (M, ...), for images whose rows are not the first ones in order."""

    array: NDArray[np.uint8]
    index: Rows

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (N, ...)."""
        return len(self.index), *self.array.shape[1:]

    @property
    def nbytes(self) -> int:
        """The size of the rows in bytes."""
        return len(self.index) * self.array[:1].nbytes

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, chosen: Any) -> NDArray[np.uint8]:
        """Return a copy of the `chosen` rows."""
        return self.array[self.index[chosen]]


Mapped = NDArray[np.uint8] | StoredRows


def rows_of(mapped: Mapped, rows: Rows) -> StoredRows:
    """Return the `rows` (n,) of `mapped` without a copy of their pixels."""
    return StoredRows(mapped.array, mapped.index[rows]) if isinstance(mapped, StoredRows) else StoredRows(mapped, rows)


@dataclass(frozen=True, eq=False)
class Store:
    """An open store: the source, `keys` and facts of every row, and by the name of a file of canvases the rows that it has, bool (M,).

    `geometries` are the geometries of these files, as `Preprocessing` without mean and std.
    """

    folder: Path
    source: str
    keys: KeyColumns
    facts: FactColumns
    filled: Mapping[str, NDArray[np.bool_]]
    geometries: Mapping[str, Preprocessing]

    def rows_of(self, keys: KeyColumns) -> Rows:
        """Return the row of each key (N,), -1 for an image that the store does not have; of two rows of one key the newer one."""
        return self.keys.rows_of(keys)

    def has_canvases(self, rows: Rows, geometry: Preprocessing) -> NDArray[np.bool_]:
        """Return for each of `rows`, bool (N,), whether it has a canvas of `geometry`."""
        filled = self.filled.get(canvas_file(geometry))
        return np.zeros(len(rows), np.bool_) if filled is None else filled[rows]

    @property
    def thumbnails(self) -> NDArray[np.uint8]:
        """The thumbnails (M, T, T, 3), memory-mapped anew."""
        return _map(self.folder / THUMBNAILS_FILE, len(self.facts), THUMBNAIL_SHAPE)

    @property
    def looks(self) -> NDArray[np.uint8]:
        """The looks (M, L, L), memory-mapped anew."""
        return _map(self.folder / LOOKS_FILE, len(self.facts), LOOK_SHAPE)


def canvas_file(geometry: Preprocessing) -> str:
    """Return the name of the file of canvases of `geometry`, which does not depend on mean and std."""
    text = geometry.model_dump_json(exclude={"mean", "std"})
    return f"canvases-{hashlib.sha256(text.encode()).hexdigest()[:12]}.u8"


def canvas_shape(images: int, geometry: Preprocessing) -> tuple[int, int, int, int]:
    """Return the shape (N, C, S, S) of the canvases of N `images`."""
    return images, geometry.channels, geometry.image_size, geometry.image_size


def open_store(folder: Path) -> Store | None:
    """Return the store in `folder`, or None if it is missing, damaged or of another `DECODER_VERSION`.

    Canvases whose file is damaged are left out.
    """
    try:
        (head, *entries), _ = journal.read(folder / JOURNAL_FILE)
        if head["decoder"] != DECODER_VERSION:
            return None
        keys, facts = _read_rows(folder, entries)
        filled, geometries = _read_canvases(entries, len(keys))
        source = str(head["source"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None
    if not (_holds(folder / THUMBNAILS_FILE, len(keys), THUMBNAIL_SHAPE) and _holds(folder / LOOKS_FILE, len(keys), LOOK_SHAPE)):
        return None
    for name, geometry in geometries.items():
        if not _holds(folder / name, int(filled[name].nonzero()[0].max(initial=-1)) + 1, canvas_shape(1, geometry)[1:]):
            del filled[name]
    return Store(folder, source, keys, facts, filled, geometries)


def _read_rows(folder: Path, entries: Sequence[journal.Entry]) -> tuple[KeyColumns, FactColumns]:
    words = Words()
    parts: list[tuple[int, int, int]] = []
    for entry in entries:
        if entry["start"] != (parts[-1][1] if parts else 0) or entry["stop"] < entry["start"]:
            raise ValueError
        parts.append((entry["start"], entry["stop"], entry["checksum"]))
        for word in entry["words"]:
            words.number(word)
    array, bounds = read_index(folder, parts)
    return KeyColumns(mapped_texts(folder, bounds)), FactColumns(array, words.all)


def _read_canvases(entries: Sequence[journal.Entry], count: int) -> tuple[dict[str, NDArray[np.bool_]], dict[str, Preprocessing]]:
    filled: dict[str, NDArray[np.bool_]] = {}
    geometries: dict[str, Preprocessing] = {}
    for entry in entries:
        for settings in entry["geometries"]:
            geometry = Preprocessing(**settings, mean=(0.0,) * settings["channels"], std=(1.0,) * settings["channels"])
            geometries[canvas_file(geometry)] = geometry
            filled[canvas_file(geometry)] = np.zeros(count, np.bool_)
        for name, ranges in entry["filled"].items():
            for start, stop in ranges:
                filled[name][start:stop] = True
    return filled, geometries


def open_rows(folder: Path, name: str, shape: Sequence[int], index: Rows | None, images: int) -> Mapped | None:
    """Return the rows `index` of the file `name` of a store, None: the first `images` rows; None if the file does not have them."""
    count = images if index is None else int(index.max(initial=-1)) + 1
    if not _holds(folder / name, count, shape):
        return None
    array = _map(folder / name, count, shape)
    return array if index is None else StoredRows(array, index)


def _holds(file: Path, rows: int, shape: Sequence[int]) -> bool:
    """Return True if `file` has at least `rows` rows of `shape`."""
    try:
        return file.stat().st_size >= rows * row_nbytes(shape)
    except OSError:
        return False


def row_nbytes(shape: Sequence[int]) -> int:
    """Return the bytes of a row of `shape`."""
    return int(np.prod(shape))


def _map(file: Path, rows: int, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Return the first `rows` rows of `file`, memory-mapped; an empty file cannot be mapped."""
    return np.memmap(file, np.uint8, "r", 0, (rows, *shape)) if rows else np.empty((0, *shape), np.uint8)


def find_store(source: str) -> Store | None:
    """Return the store of a source, of which `source` is the name that the user gave; None if it has none."""
    return next(stores_of(located(source)), None)


def stores_of(origin: str) -> Iterator[Store]:
    """Yield the stores of a source, the newest first; there are two only while the newer one replaces the other.

    `origin` is the resolved path of the source, which may be gone, or its name.
    """
    for folder in generations(origin):
        store = open_store(folder)
        if store is not None:
            yield store


def origin_hash(origin: str) -> str:
    """Return the start of the names of all stores of a source; `origin` is its location."""
    return hashlib.sha256(origin.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def generations(origin: str) -> list[Path]:
    """Return the folders of the stores of a source, the newest first."""
    parent, prefix = stores_folder(), f"{origin_hash(origin)}-"
    found = [path for path in parent.iterdir() if path.name.startswith(prefix) and path.is_dir()] if parent.is_dir() else []
    return sorted((path for path in found if generation(path)), key=lambda path: -generation(path))


def generation(folder: Path) -> int:
    """Return the number of a store among those of its source; 0 for a folder with another name."""
    number = folder.name.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdecimal() and len(number) == GENERATION_DIGITS else 0


def keys_of(source: Source, records: Sequence[Record]) -> KeyColumns:
    """Return the path and the stamp of every record."""
    paths = RecordColumns.of(records).paths
    return KeyColumns.of(zip(paths, stamps_of(source, records), strict=True))


def holds_in_order(store: Store, source: Source, records: Sequence[Record]) -> bool:
    """Return True if the rows of `store` are `records` in their present state and order, as in a store that one scan has made.

    Their keys are compared one by one, since those of millions of images would fill the memory.
    """
    stored = store.keys.texts
    if len(records) != len(stored):
        return False
    paths = RecordColumns.of(records).paths
    keys = map(SEPARATOR.join, zip(paths, stamps_of(source, records), strict=True))
    return all(encoded(key) == text for key, text in zip(keys, stored.all_stored(), strict=True))


def facts_nbytes(images: int) -> int:
    """Return the approximate bytes of N `images` on the disk without canvases: index, thumbnail and look."""
    return images * (ROW.itemsize + TEXT_BYTES + row_nbytes(THUMBNAIL_SHAPE) + row_nbytes(LOOK_SHAPE))
