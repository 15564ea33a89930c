"""The store on the disk: facts, thumbnails, looks and canvases of the images of one source, so that they are decoded only once.

A store is a folder in the cache, outside the data. Its name is a hash of the source and of the path, size and modification time of
every image. It holds JSON and .npy, never a pickle, and gets its name only when complete. Canvases of another geometry become
another file of the store.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import numpy as np
import platformdirs
import psutil
from numpy.typing import NDArray

from cnnkit.data.source import Record, Source
from cnnkit.data.store.facts import LOOK_SIZE, THUMBNAIL_SIZE, Facts
from cnnkit.errors import DataError

if TYPE_CHECKING:
    from cnnkit.model.preprocessing import Preprocessing

DECODER_VERSION = 4  # raise it when pixels or facts change, so that every store is made again
MAX_STORES = 4  # stores of one source: different selections of classes, and states before and after a change of the data
FACTS_FILE, THUMBNAILS_FILE, LOOKS_FILE = "facts.json", "thumbnails.npy", "looks.npy"


def cache_folder() -> Path:
    """Return the folder of the cache: ``$CNNKIT_CACHE``, or the user's cache folder of the system.

    Raises `DataError` for a user without a home, such as a number in a container.
    """
    given = os.environ.get("CNNKIT_CACHE")
    try:
        return Path(given or platformdirs.user_cache_dir("cnnkit"))
    except (RuntimeError, KeyError):
        raise DataError("this user has no home, so there is no folder for the cache; name one: CNNKIT_CACHE=/tmp/cnnkit-cache") from None


@dataclass(frozen=True)
class Store:
    """An open store: facts, thumbnail and look of every image, and `keys`, the (path, stamp) of every image."""

    folder: Path
    facts: tuple[Facts, ...]
    thumbnails: NDArray[np.uint8]
    looks: NDArray[np.uint8]
    keys: tuple[tuple[str, str], ...]

    def canvases(self, geometry: Preprocessing) -> NDArray[np.uint8] | None:
        """Return the canvases (N, C, S, S) of `geometry`, memory-mapped, or None if the store lacks them."""
        return open_canvases(self.folder, len(self.facts), geometry)


@dataclass(frozen=True)
class StoreInfo:
    """A store in the list of `cnnkit cache`; `used` is the time of its last use, in seconds since 1970."""

    path: Path
    source: str
    images: int
    bytes: int
    used: float


def canvas_file(geometry: Preprocessing) -> str:
    """Return the name of the file of canvases of `geometry`, which does not depend on mean and std."""
    text = geometry.model_dump_json(exclude={"mean", "std"})
    return f"canvases-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npy"


def canvas_shape(images: int, geometry: Preprocessing) -> tuple[int, int, int, int]:
    """Return the shape (N, C, S, S) of the canvases of N `images`."""
    return images, geometry.channels, geometry.image_size, geometry.image_size


def open_store(folder: Path) -> Store | None:
    """Return the store in `folder`, or None if it is missing, damaged or of another `DECODER_VERSION`."""
    try:
        index = json.loads((folder / FACTS_FILE).read_text("utf-8"))
        columns = [index["facts"][name] for name in Facts._fields]
        facts = tuple(map(Facts._make, zip(*columns, strict=True)))
        keys = tuple(zip(index["path"], index["stamp"], strict=True))
        current = index["decoder"] == DECODER_VERSION
    except (OSError, ValueError, TypeError, KeyError):
        return None
    thumbnails, looks = open_thumbnails(folder, len(facts)), open_looks(folder, len(facts))
    if thumbnails is None or looks is None or len(keys) != len(facts) or not current:
        return None
    return Store(folder, facts, thumbnails, looks, keys)


def thumbnail_shape(images: int) -> tuple[int, int, int, int]:
    """Return the shape (N, T, T, 3) of the thumbnails of N `images`."""
    return images, THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3


def look_shape(images: int) -> tuple[int, int, int]:
    """Return the shape (N, L, L) of the looks of N `images`."""
    return images, LOOK_SIZE, LOOK_SIZE


def open_thumbnails(folder: Path, images: int) -> NDArray[np.uint8] | None:
    """Return the thumbnails (N, T, T, 3) of a store of N `images`, memory-mapped, or None."""
    return open_array(folder / THUMBNAILS_FILE, thumbnail_shape(images))


def open_looks(folder: Path, images: int) -> NDArray[np.uint8] | None:
    """Return the looks (N, L, L) of a store of N `images`, memory-mapped, or None."""
    return open_array(folder / LOOKS_FILE, look_shape(images))


def open_canvases(folder: Path, images: int, geometry: Preprocessing) -> NDArray[np.uint8] | None:
    """Return the canvases (N, C, S, S) of `geometry` of a store of N `images`, memory-mapped, or None."""
    return open_array(folder / canvas_file(geometry), canvas_shape(images, geometry))


def open_array(file: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Return an array of uint8 of `shape` from a file, memory-mapped, or None if the file is missing or holds another array."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError):
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None


class Sink(Protocol):
    """A target for decoded rows."""

    def put(self, rows: NDArray[np.int64], values: NDArray[np.uint8]) -> None:
        """Store `values` (n, ...) as `rows` (n,)."""
        ...


class Sinks(NamedTuple):
    """The targets for the rows of a scan: thumbnails, looks and, with a geometry, canvases."""

    thumbnails: Sink
    looks: Sink
    canvases: Sink | None


class ArrayWriter:
    """A .npy file of uint8 that is filled in any order. A full disk raises an error, while a memory map would crash.

    Use it in a ``with`` statement, whose end may raise `OSError` too.
    """

    def __init__(self, file: Path, shape: tuple[int, ...]) -> None:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self._start = len(header.getvalue())
        self._row = math.prod(shape[1:])
        self._file = file.open("wb")
        self._file.write(header.getvalue())

    def put(self, rows: NDArray[np.int64], values: NDArray[np.uint8]) -> None:
        """Write `values` (n, ...) to the `rows` (n,), consecutive rows in one call."""
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        for part, block in zip(np.split(rows, breaks), np.split(values, breaks), strict=True):
            if len(part):
                self._file.seek(self._start + int(part[0]) * self._row)
                self._file.write(block.tobytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def stores() -> list[StoreInfo]:
    """Return all stores, last used first; the folder of an interrupted scan counts as a store without images."""
    found: list[StoreInfo] = []
    for folder in _folders(cache_folder() / "stores"):
        try:
            index = json.loads((folder / FACTS_FILE).read_text("utf-8"))
            source, images = str(index["source"]), len(index["path"])
        except (OSError, ValueError, KeyError, TypeError):
            source, images = "", 0
        size = sum(file.stat().st_size for file in folder.iterdir())
        found.append(StoreInfo(folder, source, images, size, folder.stat().st_mtime))
    return sorted(found, key=lambda info: -info.used)


def stores_of(location: str) -> Iterator[Store]:
    """Yield the stores of a source, last used first. `location` is its resolved path, which may be gone, or its name."""
    for folder in _stores_of_origin(cache_folder() / "stores", _origin_hash(location)):
        store = open_store(folder)
        if store is not None:
            yield store


def clear() -> int:
    """Remove all stores and return the freed bytes; a run can go on with its removed store."""
    freed = sum(info.bytes for info in stores())
    shutil.rmtree(cache_folder() / "stores", ignore_errors=True)
    return freed


Fill = Callable[[Sinks, Iterable[Store]], list[Facts]]  # with the earlier stores of the source


class ScanStore:
    """The store of the scan of `records` in their present state: `content` is an earlier scan's, or None."""

    def __init__(self, source: Source, records: Sequence[Record]) -> None:
        self.keys = tuple((record.path, source.stamp(record)) for record in records)
        self.folder = _store_folder(source, self.keys)
        self.content = open_store(self.folder)
        self._source = source.name
        if self.content is not None:
            with suppress(OSError):
                os.utime(self.folder)  # the time of the last use: the oldest stores are removed first

    def canvases(self, geometry: Preprocessing | None) -> NDArray[np.uint8] | None:
        """Return the canvases of `geometry`, memory-mapped, or None if there are none."""
        return self.content.canvases(geometry) if self.content is not None and geometry is not None else None

    def write(self, geometry: Preprocessing | None, fill: Fill) -> Store:
        """Write what `fill` puts into the sinks, and return the store: a new one, or the known one with canvases of `geometry`.

        Raises `OSError` if the disk is full or may not be written, `DataError` if the store cannot be read back.
        """
        part = _new_part(self.folder)
        try:
            with ExitStack() as files:
                thumbnails = files.enter_context(ArrayWriter(part / THUMBNAILS_FILE, thumbnail_shape(len(self.keys))))
                looks = files.enter_context(ArrayWriter(part / LOOKS_FILE, look_shape(len(self.keys))))
                canvases = None
                if geometry is not None:
                    shape = canvas_shape(len(self.keys), geometry)
                    canvases = files.enter_context(ArrayWriter(part / canvas_file(geometry), shape))
                facts = fill(Sinks(thumbnails, looks, canvases), () if self.content else _earlier_stores(self.folder))
            if self.content is not None and geometry is not None:
                (part / canvas_file(geometry)).replace(self.folder / canvas_file(geometry))
            else:
                _write_facts(part, self._source, self.keys, facts)
                _publish(part, self.folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        made = open_store(self.folder)
        if made is None or (geometry is not None and made.canvases(geometry) is None):
            raise DataError(f"{self.folder}: the new store of decoded images cannot be read back; use --cache ram")
        return made


def _store_folder(source: Source, keys: Sequence[tuple[str, str]]) -> Path:
    origin = str(Path(source.name).resolve()) if Path(source.name).exists() else source.name
    digest = hashlib.sha256(str(DECODER_VERSION).encode())
    for path, stamp in keys:
        digest.update(_bytes(f"\0{path}\0{stamp}"))
    return cache_folder() / "stores" / f"{_origin_hash(origin)}-{digest.hexdigest()[:20]}"


def _origin_hash(origin: str) -> str:
    """Return the start of the names of all stores of a source; `origin` is its resolved path or its name."""
    return hashlib.sha256(_bytes(origin)).hexdigest()[:12]


def _earlier_stores(folder: Path) -> Iterator[Store]:
    """Yield the other stores of the same source, last used first: most of their images may be unchanged."""
    for sibling in _siblings(folder):
        store = open_store(sibling)
        if store is not None:
            yield store


def _write_facts(folder: Path, source: str, keys: Sequence[tuple[str, str]], facts: Sequence[Facts]) -> None:
    """Write the facts of images into `folder`, in columns."""
    columns = {name: [getattr(item, name) for item in facts] for name in Facts._fields}
    paths, stamps = [path for path, _ in keys], [stamp for _, stamp in keys]
    index = {"decoder": DECODER_VERSION, "source": source, "path": paths, "stamp": stamps, "facts": columns}
    (folder / FACTS_FILE).write_text(json.dumps(index), "utf-8")


def _publish(part: Path, folder: Path) -> None:
    """Give the complete store `part` its name, and remove the oldest stores of its source."""
    if open_store(folder) is None:  # another process may have made it meanwhile
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    for old in _siblings(folder)[MAX_STORES - 1 :]:
        shutil.rmtree(old, ignore_errors=True)


def _new_part(folder: Path) -> Path:
    """Return a new folder in which a store is written, after removing the folders of interrupted scans."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob("*.part-*"):
        owner = left.name.rpartition(".part-")[2].partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    part = folder.with_name(f"{folder.name}.part-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    part.mkdir()
    return part


def _siblings(folder: Path) -> list[Path]:
    """Return the other complete stores of the source of `folder`, last used first."""
    return [path for path in _stores_of_origin(folder.parent, folder.name.partition("-")[0]) if path != folder]


def _stores_of_origin(parent: Path, origin_hash: str) -> list[Path]:
    """Return the folders of the complete stores of one source, last used first."""
    found = [path for path in _folders(parent) if path.name.startswith(f"{origin_hash}-") and ".part-" not in path.name]
    return sorted(found, key=lambda path: -path.stat().st_mtime)


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def facts_nbytes(images: int) -> int:
    """Return the approximate bytes of N `images` on the disk without canvases: 350 bytes of JSON per image, the thumbnail and the look."""
    return images * (350 + THUMBNAIL_SIZE**2 * 3 + LOOK_SIZE**2)
