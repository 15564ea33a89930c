"""The scan: every image decoded once, and the store it fills.

The store holds what the model sees before normalisation: uint8 canvases (N, C, S, S). On disk it lies outside the data
folder, under a key made of every path, size and modification time and of the geometry, so a changed image is decoded
again and an unchanged folder is not. It is .npy and JSON, never a pickle, and appears under its name only when whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Literal

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray

from cnnkit.data.image import UndecodableError
from cnnkit.data.source import Record, Source
from cnnkit.errors import DataError
from cnnkit.preprocess import Preprocess, Preprocessing

DECODER = 1  # raise when the decoder's pixels change: every store is then made anew
CHUNK = 16  # images a thread takes at a time; handing them over costs less than decoding one
WAITING = 4  # chunks per thread that are being decoded or wait, decoded, for their turn: what bounds the memory
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Scanned:
    """What the scan learned of one record: the SHA-256 of its content, or why it cannot be read."""

    sha256: str
    error: str


Block = tuple[NDArray[np.uint8], list[Scanned]]  # canvases of a chunk, and what was learned of each


@dataclass(frozen=True)
class Scan:
    """The store and what was learned while it was filled; row i of both is record i. `folder` is None if in memory."""

    canvases: NDArray[np.uint8]
    scanned: tuple[Scanned, ...]
    folder: Path | None
    reused: bool

    @property
    def bad(self) -> list[int]:
        """Rows that could not be read; their canvases are black and must not be used."""
        return [row for row, item in enumerate(self.scanned) if item.error]


def cache_folder() -> Path:
    """Return where stores are kept: ``$CNNKIT_CACHE``, or the system's cache folder of the user."""
    return Path(os.environ.get("CNNKIT_CACHE") or platformdirs.user_cache_dir("cnnkit"))


def scan(
    source: Source,
    records: Sequence[Record],
    geometry: Preprocessing,
    *,
    cache: Literal["auto", "ram", "disk"] = "auto",
    workers: int = 0,
    progress: Progress | None = None,
) -> Scan:
    """Decode `records` into a store of canvases as `geometry` says, or open the store that an earlier scan left.

    `progress(done, total)` is called after every chunk. Raises `DataError` if the store does not fit on the disk.
    """
    folder = cache_folder() / "stores" / _key(source, records, geometry)
    shape = (len(records), geometry.channels, geometry.image_size, geometry.image_size)
    if cache != "ram":
        found = _open(folder, shape)
        if found is not None:
            return found
    in_memory = cache == "ram" or (cache == "auto" and not _room_for(folder, math.prod(shape)))
    with closing(_decode(source, records, geometry, workers, progress)) as blocks:
        if in_memory:
            return _keep(shape, blocks)
        _write(folder, shape, blocks)
    made = _open(folder, shape)
    if made is None:
        raise DataError(f"{folder}: the store that was just written cannot be read back; use --cache ram")
    return Scan(made.canvases, made.scanned, folder, reused=False)


def _key(source: Source, records: Sequence[Record], geometry: Preprocessing) -> str:
    place = str(Path(source.name).resolve()) if Path(source.name).exists() else source.name
    digest = hashlib.sha256(json.dumps([DECODER, place, geometry.model_dump(exclude={"mean", "std"})]).encode())
    for record in records:
        digest.update(f"\0{record.path}\0{source.stamp(record)}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _open(folder: Path, shape: tuple[int, ...]) -> Scan | None:
    """Open a store; None if there is none or it is not whole."""
    try:
        index = json.loads((folder / "index.json").read_text("utf-8"))
        canvases = np.load(folder / "canvases.npy", mmap_mode="r", allow_pickle=False)
        scanned = tuple(Scanned(**item) for item in index)
    except (OSError, EOFError, ValueError, TypeError):
        return None
    whole = canvases.shape == shape and canvases.dtype == np.uint8 and len(scanned) == len(canvases)
    return Scan(canvases, scanned, folder, reused=True) if whole else None


def _keep(shape: tuple[int, ...], blocks: Iterable[Block]) -> Scan:
    """Make a store in memory."""
    canvases = np.empty(shape, np.uint8)
    scanned: list[Scanned] = []
    for block, items in blocks:
        canvases[len(scanned) : len(scanned) + len(items)] = block
        scanned += items
    return Scan(canvases, tuple(scanned), None, reused=False)


def _write(folder: Path, shape: tuple[int, ...], blocks: Iterable[Block]) -> None:
    """Make a store on disk; what is left of an interrupted one is removed."""
    part = folder.with_name(f"{folder.name}.part-{uuid.uuid4().hex[:8]}")
    try:
        part.mkdir(parents=True)
        with (part / "canvases.npy").open("wb") as file:
            scanned = _fill(file, shape, blocks)
        (part / "index.json").write_text(json.dumps([asdict(item) for item in scanned]), "utf-8")
        if _open(folder, shape) is None:  # else another process made it meanwhile: one is enough
            shutil.rmtree(folder, ignore_errors=True)
            part.replace(folder)
    except OSError as error:
        reason = "no space is left" if error.errno == errno.ENOSPC else (error.strerror or str(error))
        raise DataError(
            f"{folder.parent}: the store of decoded images ({math.prod(shape) / 1e6:.0f} MB) cannot be written there: {reason}; "
            f"free some, point CNNKIT_CACHE to a folder on another disk, or use --cache ram"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _fill(file: IO[bytes], shape: tuple[int, ...], blocks: Iterable[Block]) -> list[Scanned]:
    """Write canvases one after the other: a full disk is then an error, where a memory map would be a crash."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    scanned: list[Scanned] = []
    for block, items in blocks:
        file.write(block.tobytes())
        scanned += items
    return scanned


def _decode(
    source: Source, records: Sequence[Record], geometry: Preprocessing, workers: int, progress: Progress | None
) -> Generator[Block]:
    """Yield canvases and findings chunk by chunk, in order."""
    threads = workers or os.cpu_count() or 1
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    preprocess = Preprocess(geometry)
    waiting: deque[Future[Block]] = deque()
    chunks = iter([records[start : start + CHUNK] for start in range(0, len(records), CHUNK)])
    done = 0
    try:
        while True:
            for chunk in islice(chunks, WAITING * threads - len(waiting)):
                waiting.append(pool.submit(_decode_chunk, source, chunk, preprocess))
            if not waiting:
                return
            block, items = waiting.popleft().result()
            done += len(items)
            if progress:
                progress(done, len(records))
            yield block, items
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)


def _decode_chunk(source: Source, records: Sequence[Record], preprocess: Preprocess) -> Block:
    spec = preprocess.spec
    block = np.zeros((len(records), spec.channels, spec.image_size, spec.image_size), np.uint8)
    items = []
    for row, record in enumerate(records):
        try:
            pixels = source.read(record)
            block[row] = preprocess.canvas(torch.from_numpy(pixels.image.copy())[None])[0].numpy()
            items.append(Scanned(pixels.sha256, ""))
        except UndecodableError as error:
            items.append(Scanned("", str(error)))
    return block, items


def _room_for(folder: Path, size: int) -> bool:
    """Whether the cache's disk takes `size` bytes and keeps a tenth of its free space."""
    place = folder
    while not place.exists():
        place = place.parent
    return place.is_dir() and os.access(place, os.W_OK) and shutil.disk_usage(place).free * 0.9 > size
