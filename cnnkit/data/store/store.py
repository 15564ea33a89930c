"""The store on the disk: facts, thumbnails and canvases of the images of one source, so that they are decoded once.

A store is a folder in the cache, outside the data, under a name made of the source's place and of every path, size and
modification time. It holds JSON and .npy, never a pickle, and appears under its name only when whole; canvases of another
geometry are added to it as another file.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import platformdirs
import psutil
from numpy.typing import NDArray

from cnnkit.data.source import Record, Source
from cnnkit.data.store.facts import THUMBNAIL_SIZE, Facts

if TYPE_CHECKING:
    from cnnkit.model.preprocessing import Preprocessing

DECODER_VERSION = 2  # raise when the decoder's pixels or what is measured on them change: every store is then made anew
MAX_STORES = 4  # stores of one source: selections of classes, and states before and after a change of the data
FACTS_FILE, THUMBNAILS_FILE = "facts.json", "thumbnails.npy"


def cache_folder() -> Path:
    """Return where stores are kept: ``$CNNKIT_CACHE``, or the system's cache folder of the user."""
    return Path(os.environ.get("CNNKIT_CACHE") or platformdirs.user_cache_dir("cnnkit"))


@dataclass(frozen=True)
class Store:
    """An open store: what was learned of every image, and the (path, stamp) under which it was."""

    folder: Path
    facts: tuple[Facts, ...]
    thumbnails: NDArray[np.uint8]
    keys: tuple[tuple[str, str], ...]

    def canvases(self, geometry: Preprocessing) -> NDArray[np.uint8] | None:
        """Open the canvases (N, C, S, S) of `geometry`, memory-mapped; None if there are none."""
        return open_canvases(self.folder, len(self.facts), geometry)


@dataclass(frozen=True)
class StoreInfo:
    """A store as `cnnkit cache` lists it: `used` is the time of its last use in seconds since 1970."""

    path: Path
    source: str
    images: int
    bytes: int
    used: float


def store_folder(source: Source, records: Sequence[Record], stamps: Sequence[str]) -> Path:
    """Return the folder of the store of these images as they are now."""
    place = str(Path(source.name).resolve()) if Path(source.name).exists() else source.name
    where = hashlib.sha256(_bytes(place)).hexdigest()[:12]
    digest = hashlib.sha256(str(DECODER_VERSION).encode())
    for record, stamp in zip(records, stamps, strict=True):
        digest.update(_bytes(f"\0{record.path}\0{stamp}"))
    return cache_folder() / "stores" / f"{where}-{digest.hexdigest()[:20]}"


def canvas_file(geometry: Preprocessing) -> str:
    """Return the name of the file of the canvases of `geometry`; mean and std play no part in them."""
    text = geometry.model_dump_json(exclude={"mean", "std"})
    return f"canvases-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npy"


def canvas_shape(images: int, geometry: Preprocessing) -> tuple[int, int, int, int]:
    """Return (N, C, S, S)."""
    return images, geometry.channels, geometry.image_size, geometry.image_size


def open_store(folder: Path) -> Store | None:
    """Open a store; None if there is none or it is not whole."""
    try:
        index = json.loads((folder / FACTS_FILE).read_text("utf-8"))
        columns = [index["facts"][name] for name in Facts._fields]
        facts = tuple(map(Facts._make, zip(*columns, strict=True)))
        keys = tuple(zip(index["path"], index["stamp"], strict=True))
        current = index["decoder"] == DECODER_VERSION
    except (OSError, ValueError, TypeError, KeyError):
        return None
    thumbnails = open_thumbnails(folder, len(facts))
    if thumbnails is None or len(keys) != len(facts) or not current:
        return None
    return Store(folder, facts, thumbnails, keys)


def open_thumbnails(folder: Path, images: int) -> NDArray[np.uint8] | None:
    """Open the thumbnails (N, T, T, 3) of a store of so many `images`; None if there are none."""
    return open_array(folder / THUMBNAILS_FILE, (images, THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3))


def open_canvases(folder: Path, images: int, geometry: Preprocessing) -> NDArray[np.uint8] | None:
    """Open the canvases (N, C, S, S) of `geometry` of a store of so many `images`; None if there are none."""
    return open_array(folder / canvas_file(geometry), canvas_shape(images, geometry))


def mark_used(folder: Path) -> None:
    """Note that a store is used now; those used longest ago go first."""
    with suppress(OSError):
        os.utime(folder)


def open_array(file: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Open a file of uint8 of this shape, memory-mapped; None if there is none or it is another."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError):
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None


def earlier_stores(folder: Path) -> Iterator[Store]:
    """Yield the other stores of the same source, last used first: most of their images may not have changed."""
    for sibling in _siblings(folder):
        store = open_store(sibling)
        if store is not None:
            yield store


def write_facts(folder: Path, source: Source, keys: Sequence[tuple[str, str]], facts: Sequence[Facts]) -> None:
    """Write what was learned of the images into `folder`, in columns."""
    columns = {name: [getattr(item, name) for item in facts] for name in Facts._fields}
    paths, stamps = [path for path, _ in keys], [stamp for _, stamp in keys]
    index = {"decoder": DECODER_VERSION, "source": source.name, "path": paths, "stamp": stamps, "facts": columns}
    (folder / FACTS_FILE).write_text(json.dumps(index), "utf-8")


class ArrayWriter:
    """A .npy file of uint8 that is filled in any order: a full disk is then an error, where a memory map would be a crash.

    Use it in a ``with`` statement, whose end may raise `OSError` as well.
    """

    def __init__(self, file: Path, shape: tuple[int, ...]) -> None:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self._start = len(header.getvalue())
        self._row = math.prod(shape[1:])
        self._file = file.open("wb")
        self._file.write(header.getvalue())

    def put(self, rows: NDArray[np.int64], values: NDArray[np.uint8]) -> None:
        """Write `values` (n, ...) to the `rows` (n,); rows that follow each other cost one call."""
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        for part, block in zip(np.split(rows, breaks), np.split(values, breaks), strict=True):
            if len(part):
                self._file.seek(self._start + int(part[0]) * self._row)
                self._file.write(block.tobytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def publish(part: Path, folder: Path) -> None:
    """Give the finished store `part` its name, and let the oldest stores of its source go."""
    if open_store(folder) is None:  # else another process made it meanwhile: one is enough
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    for old in _siblings(folder)[MAX_STORES - 1 :]:
        shutil.rmtree(old, ignore_errors=True)


def new_part(folder: Path) -> Path:
    """Make the folder in which a store is written, after removing those that interrupted scans have left."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob("*.part-*"):
        owner = left.name.rpartition(".part-")[2].partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    part = folder.with_name(f"{folder.name}.part-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    part.mkdir()
    return part


def stores() -> list[StoreInfo]:
    """Return all stores, last used first; what interrupted scans left counts as one of no images."""
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


def clear() -> int:
    """Remove all stores and return how many bytes that freed; a run that is using one goes on undisturbed."""
    freed = sum(info.bytes for info in stores())
    shutil.rmtree(cache_folder() / "stores", ignore_errors=True)
    return freed


def _siblings(folder: Path) -> list[Path]:
    """Whole stores of the same source as `folder`, without it, last used first."""
    place = folder.name.partition("-")[0]
    others = [
        path for path in _folders(folder.parent) if path.name.startswith(f"{place}-") and path != folder and ".part-" not in path.name
    ]
    return sorted(others, key=lambda path: -path.stat().st_mtime)


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def facts_nbytes(images: int) -> int:
    """Roughly what facts and thumbnails of so many images take on the disk, in bytes: 350 of JSON an image, and the thumbnail."""
    return images * (350 + THUMBNAIL_SIZE**2 * 3)
