"""The writer of a store: new rows at its end, canvases of known rows, and a journal line for all that was written."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Self

import numpy as np
import psutil
from numpy.typing import NDArray

from cnnkit.data.source import located
from cnnkit.data.store import journal
from cnnkit.data.store.facts import Facts
from cnnkit.data.store.index import ROW, ROWS_FILE, TEXTS_FILE, Key, KeyColumns, Words, checksum, pack
from cnnkit.data.store.locks import exclusive, is_in_use
from cnnkit.data.store.store import (
    COPY_ROWS,
    DECODER_VERSION,
    GENERATION_DIGITS,
    JOURNAL_FILE,
    LOOK_SHAPE,
    LOOKS_FILE,
    THUMBNAIL_SHAPE,
    THUMBNAILS_FILE,
    Rows,
    Store,
    canvas_file,
    canvas_shape,
    generation,
    generations,
    open_store,
    origin_hash,
    row_nbytes,
    stores_folder,
)
from cnnkit.model.preprocessing import Preprocessing

COMMIT_SECONDS = 1.0  # of work that a killed scan loses at most; each line of the journal waits for the disk
PATIENCE_SECONDS = 120.0  # without a new row, after which a process that holds the store counts as stopped


class RowFile:
    """A file of rows of uint8 of `shape`, of which the first `rows` are kept. A full disk raises an error, while a map would crash."""

    def __init__(self, file: Path, shape: Sequence[int], rows: int) -> None:
        self._row = row_nbytes(shape)
        self._file: IO[bytes] = file.open("r+b" if file.exists() else "w+b", buffering=0)
        self.cut(rows)

    def put(self, rows: Rows, values: NDArray[np.uint8]) -> None:
        """Write `values` (n, ...) to the `rows` (n,), consecutive rows in one call."""
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        for part, block in zip(np.split(rows, breaks), np.split(values, breaks), strict=True):
            if len(part):
                self._file.seek(int(part[0]) * self._row)
                left = memoryview(block.tobytes())
                while left:
                    left = left[self._file.write(left) :]

    def cut(self, rows: int) -> None:
        """Remove what lies beyond the first `rows` rows."""
        if self._file.seek(0, os.SEEK_END) > rows * self._row:
            self._file.truncate(rows * self._row)

    def finish(self, rows: int) -> None:
        """Make the file `rows` rows long, if it is shorter, and wait until it is on the disk."""
        if self._file.seek(0, os.SEEK_END) < rows * self._row:
            self._file.truncate(rows * self._row)
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class StoreWriter:
    """The writer of `store`, which it extends; only one process may have it, see `open_writer`.

    `commit` makes everything count that was written before. Use the writer in a ``with`` statement, which commits at its end, also
    after an interruption. Every method may raise `OSError`: then the store has the rows of the last commit.
    """

    def __init__(self, store: Store) -> None:
        self.folder, self._known = store.folder, set(store.geometries)
        self._size = len(store.keys)
        self._committed = self._size
        self._words = Words(store.facts.words)
        self._known_words = len(self._words.all)
        self._text_size = int(store.keys.texts.bounds[-1])
        self._keys: list[Key] = []
        self._facts: list[Facts] = []
        self._filled: dict[str, list[Rows]] = {}
        self._geometries: list[Preprocessing] = []
        self._files: dict[str, RowFile] = {}
        self._text_file: RowFile | None = None
        self._time = time.monotonic()
        _, size = journal.read(self.folder / JOURNAL_FILE)
        self._journal: IO[bytes] = (self.folder / JOURNAL_FILE).open("r+b", buffering=0)
        self._journal.truncate(size)
        self._journal_size = size

    def append(
        self,
        keys: Sequence[Key],
        facts: Sequence[Facts],
        thumbnails: NDArray[np.uint8],
        looks: NDArray[np.uint8],
        canvases: Mapping[Preprocessing, NDArray[np.uint8]],
    ) -> None:
        """Write n new rows with all their canvases (n, C, S, S), by geometry."""
        rows = np.arange(self._size, self._size + len(keys))
        self._file(THUMBNAILS_FILE, THUMBNAIL_SHAPE).put(rows, thumbnails)
        self._file(LOOKS_FILE, LOOK_SHAPE).put(rows, looks)
        self._keys += keys
        self._facts += facts
        self._size += len(keys)
        for geometry, values in canvases.items():
            self.fill(rows, geometry, values)

    def fill(self, rows: Rows, geometry: Preprocessing, canvases: NDArray[np.uint8] | None) -> None:
        """Write the `canvases` (n, C, S, S) of `geometry` of `rows` (n,); None for unreadable images, whose canvases are black."""
        name = canvas_file(geometry)
        if name not in self._known:
            self._known.add(name)
            self._geometries.append(geometry)
        file = self._file(name, canvas_shape(1, geometry)[1:])
        if canvases is not None:
            file.put(rows, canvases)
        self._filled.setdefault(name, []).append(rows)

    def commit_in_time(self) -> None:
        """Commit if the last commit is `COMMIT_SECONDS` ago."""
        if time.monotonic() - self._time >= COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Add a line to the journal for everything that was written, after the pixels have reached the disk."""
        if not self._keys and not self._filled:
            return
        for file in self._files.values():
            file.finish(self._size)
        found, text_size = self._write_index() if self._keys else (0, self._text_size)
        entry = {
            "start": self._committed,
            "stop": self._size,
            "checksum": found,
            "words": self._words.all[self._known_words :],
            "geometries": [geometry.model_dump(mode="json", exclude={"mean", "std"}) for geometry in self._geometries],
            "filled": {name: _ranges(np.concatenate(parts)) for name, parts in self._filled.items()},
        }
        _write_line(self._journal, self._journal_size, entry)
        self._journal_size = self._journal.tell()
        self._committed, self._known_words, self._text_size = self._size, len(self._words.all), text_size
        self._keys, self._facts, self._filled, self._geometries = [], [], {}, []
        self._time = time.monotonic()

    def _write_index(self) -> tuple[int, int]:
        """Write path, stamp and facts of the new rows, and return their checksum and the size of all texts."""
        texts = KeyColumns.of(self._keys).texts
        ends = texts.bounds[1:] + self._text_size
        rows = pack(self._facts, ends, self._words)
        stored = np.frombuffer(rows.tobytes(), np.uint8).reshape(len(rows), ROW.itemsize)
        size = self._text_size + len(texts.blob)
        self._file(ROWS_FILE, (ROW.itemsize,)).put(np.arange(self._committed, self._size), stored)
        self._texts().put(np.arange(self._text_size, size), texts.blob)
        self._file(ROWS_FILE, (ROW.itemsize,)).finish(self._size)
        self._texts().finish(size)
        return checksum(rows.tobytes(), texts.blob.tobytes()), size

    def _file(self, name: str, shape: Sequence[int]) -> RowFile:
        if name not in self._files:
            self._files[name] = RowFile(self.folder / name, shape, self._committed)
        return self._files[name]

    def _texts(self) -> RowFile:
        """Return the file of paths and stamps, each byte of which is a row."""
        if self._text_file is None:
            self._text_file = RowFile(self.folder / TEXTS_FILE, (), self._text_size)
        return self._text_file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None or not issubclass(kind, OSError):
                self.commit()
        finally:
            for file in self._files.values():
                with suppress(OSError):
                    file.cut(self._committed)
                file.close()
            if self._text_file is not None:
                with suppress(OSError):
                    self._text_file.cut(self._text_size)
                self._text_file.close()
            self._journal.close()


def _write_line(file: IO[bytes], start: int, entry: journal.Entry) -> None:
    """Write the line of `entry` at `start`, and wait until it is on the disk; a line that was written in part is removed again."""
    file.seek(start)
    left = memoryview(journal.encode(entry))
    try:
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            file.truncate(start)
        raise


def _ranges(rows: Rows) -> list[list[int]]:
    """Return ascending rows as ranges of consecutive rows, each [first, last + 1]."""
    rows = np.unique(rows)
    parts = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    return [[int(part[0]), int(part[-1]) + 1] for part in parts if len(part)]


@contextmanager
def open_writer(source: str, present: Collection[str]) -> Generator[tuple[StoreWriter, Store] | None]:
    """Yield the writer of the store of a source, and the store as it is; None if another process holds the store and has stopped.

    Another process that writes the store is waited for. A store is made if there is none. If most rows are of images that were changed
    or are not among the paths `present`, a new store replaces it, which has only the other rows. Raises `OSError`.
    """
    origin = located(source)
    lock = stores_folder() / f"{origin_hash(origin)}.lock"
    with exclusive(lock, _watch(origin)) as obtained:
        if not obtained:
            yield None
            return
        store = _current(source, origin, present)
        with StoreWriter(store) as writer:
            yield writer, store


def _watch(origin: str) -> Callable[[], bool]:
    """Return a function that returns False once no file of the stores of a source was written for `PATIENCE_SECONDS`."""
    start = time.time()

    def is_alive() -> bool:
        times = [start]
        for folder in generations(origin):
            with suppress(OSError):
                times += [file.stat().st_mtime for file in folder.iterdir()]
        return time.time() - max(times) < PATIENCE_SECONDS

    return is_alive


def _current(source: str, origin: str, present: Collection[str]) -> Store:
    """Return the store to extend, after removing the older stores of the source."""
    folders = generations(origin)
    store = next((found for folder in folders if (found := open_store(folder))), None)
    if store is None or not _is_sound(store, present):
        number = 1 + max((generation(folder) for folder in folders), default=0)
        store = _renew(stores_folder() / f"{origin_hash(origin)}-{number:0{GENERATION_DIGITS}d}", source, store, present)
    for folder in stores_folder().iterdir():
        is_older = folder.name.startswith(f"{origin_hash(origin)}-") and folder.is_dir() and folder != store.folder
        if is_older and ".part-" not in folder.name and not is_in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)
    return store


def _is_sound(store: Store, present: Collection[str]) -> bool:
    """Return True if all files of canvases are there, and at least half of the rows are of images in their present state."""
    return store.filled.keys() == store.geometries.keys() and 2 * len(_live_rows(store, present)) >= len(store.keys)


def _live_rows(store: Store, present: Collection[str]) -> Rows:
    """Return the rows, ascending, of the newest state of each image among the paths `present`."""
    newest = {path: row for row, (path, _) in enumerate(store.keys) if path in present}
    return np.array(sorted(newest.values()), np.int64)


def _renew(folder: Path, source: str, old: Store | None, present: Collection[str]) -> Store:
    """Make the store `folder`, with the live rows of the store `old`; it gets its name only when it is complete."""
    _remove_parts(folder.parent)
    part = folder.with_name(f"{folder.name}.part-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    part.mkdir(parents=True)
    try:
        (part / JOURNAL_FILE).write_bytes(journal.encode({"decoder": DECODER_VERSION, "source": source}))
        for name in (THUMBNAILS_FILE, LOOKS_FILE, ROWS_FILE, TEXTS_FILE):
            (part / name).touch()
        if old is not None:
            _copy(old, _live_rows(old, present), part)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    store = open_store(folder)
    if store is None:
        raise OSError(0, "the new store cannot be read back", str(folder))
    return store


def _copy(old: Store, live: Rows, part: Path) -> None:
    """Copy the rows `live` of a store to the new store `part`."""
    new = open_store(part)
    assert new is not None  # noqa: S101 (it was made by the caller)
    thumbnails, looks = old.thumbnails, old.looks
    with StoreWriter(new) as writer, ExitStack() as files:
        opened = {name: files.enter_context((old.folder / name).open("rb")) for name in old.filled}
        for start in range(0, len(live), COPY_ROWS):
            rows = live[start : start + COPY_ROWS]
            writer.append(list(old.keys.take(rows)), list(old.facts.take(rows)), thumbnails[rows], looks[rows], {})
            for name, file in opened.items():
                geometry, have = old.geometries[name], np.flatnonzero(old.filled[name][rows])
                for place in have.tolist():  # one by one, since a row may have megabytes
                    shape = canvas_shape(1, geometry)
                    file.seek(int(rows[place]) * row_nbytes(shape))
                    canvas = np.frombuffer(file.read(row_nbytes(shape)), np.uint8).reshape(shape)
                    writer.fill(np.array([start + place]), geometry, canvas)


def _remove_parts(parent: Path) -> None:
    """Remove the folders that processes left behind which ended while they made a store."""
    for left in parent.glob("*.part-*"):
        owner = left.name.rpartition(".part-")[2].partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
