"""Work of a decoding worker on a few stored images: decode, measure, resize. It runs in processes and in threads."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cnnkit.data.image import UndecodableError, drafts_differ
from cnnkit.data.source import Reader, Record, StoredImage
from cnnkit.data.store.facts import LOOK_SIZE, THUMBNAIL_SIZE, DecodedImage, Facts, decode, measure
from cnnkit.model.canvas import make_canvases
from cnnkit.model.preprocessing import DRAFT_SIDE

if TYPE_CHECKING:
    from cnnkit.model.preprocessing import Preprocessing

MAX_DECODED_BYTES = 2**26  # of decoded images in memory: a chunk of small files may hold images of many megapixels
ReadResult = StoredImage | str  # an image of a source, or the reason why it cannot be read


class Block(NamedTuple):
    """Results for n images: facts, thumbnails uint8 (n, T, T, 3), looks uint8 (n, L, L), and canvases uint8 (n, C, S, S) of each geometry.

    An unreadable image has the reason in its facts, and a black thumbnail, look and canvas. Images that are not measured have no
    thumbnails and looks.
    """

    facts: list[Facts]
    thumbnails: NDArray[np.uint8]
    looks: NDArray[np.uint8]
    canvases: tuple[NDArray[np.uint8], ...]

    @classmethod
    def join(cls, parts: Sequence[Block]) -> Block:
        """Return the concatenation of blocks."""
        canvases = zip(*(part.canvases for part in parts), strict=True)
        facts = [item for part in parts for item in part.facts]
        thumbnails, looks = np.concatenate([part.thumbnails for part in parts]), np.concatenate([part.looks for part in parts])
        return cls(facts, thumbnails, looks, tuple(map(np.concatenate, canvases)))


def read_all(source: Reader, records: Sequence[Record]) -> list[ReadResult]:
    """Return the stored images of `records`, or the reason for an image that cannot be read."""
    found: list[ReadResult] = []
    for record in records:
        try:
            found.append(source.read(record))
        except UndecodableError as error:
            found.append(str(error))
    return found


def decode_block(stored: Sequence[ReadResult], geometries: Sequence[Preprocessing] = (), *, measured: bool = True) -> Block:
    """Decode some images and make their canvases of each of `geometries`; unless `measured`, facts hold only SHA-256 and error.

    At most `MAX_DECODED_BYTES` of decoded images, or one image, are in memory at a time.
    """
    parts: list[Block] = []
    done = 0
    while done < len(stored) or not parts:
        parts.append(_decode_some(stored[done:], geometries, measured=measured))
        done += len(parts[-1].facts)
    return parts[0] if len(parts) == 1 else Block.join(parts)


def _decode_some(stored: Sequence[ReadResult], geometries: Sequence[Preprocessing], *, measured: bool) -> Block:
    """Return the block of the first images of `stored`, up to the one that exceeds `MAX_DECODED_BYTES`."""
    decoded: list[DecodedImage] = []
    rows: list[int] = []
    images: dict[int | None, list[NDArray[np.uint8]]] = {geometry.draft_side: [] for geometry in geometries}  # by draft side
    side = DRAFT_SIDE if measured else next(iter(images), DRAFT_SIDE)
    facts: list[Facts] = []
    held = 0
    for row, item in enumerate(stored):
        if held >= MAX_DECODED_BYTES:
            break
        facts.append(Facts(error=item) if isinstance(item, str) else Facts())
        if isinstance(item, str):
            continue
        try:
            found = decode(item, side)
            versions = [decode(item, each).image if drafts_differ(found.header, side, each) else found.image for each in images]
            decoded.append(found)
            rows.append(row)
            held += found.image.nbytes + sum(version.nbytes for version in versions if version is not found.image)
            for kept, version in zip(images.values(), versions, strict=True):
                kept.append(version)
        except UndecodableError as error:
            facts[row] = Facts(error=str(error), bytes=len(item) if isinstance(item, bytes) else 0)
    pictured = len(facts) if measured else 0
    thumbnails = np.zeros((pictured, THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3), np.uint8)
    looks = np.zeros((pictured, LOOK_SIZE, LOOK_SIZE), np.uint8)
    if measured:
        measurements, thumbnails[rows], looks[rows] = measure(decoded)
    else:
        measurements = [Facts(sha256=item.sha256) for item in decoded]
    for row, item in zip(rows, measurements, strict=True):
        facts[row] = item
    canvases = tuple(_canvases(images[each.draft_side], rows, len(facts), each) for each in geometries)
    return Block(facts, thumbnails, looks, canvases)


def _canvases(images: Sequence[NDArray[np.uint8]], rows: Sequence[int], count: int, geometry: Preprocessing) -> NDArray[np.uint8]:
    """Return the canvases (`count`, C, S, S) of decoded `images` in their `rows`; the other rows are black."""
    canvases = np.zeros((count, geometry.channels, geometry.image_size, geometry.image_size), np.uint8)
    canvases[list(rows)] = make_canvases(images, geometry)
    return canvases


def prepare_worker(*, with_torch: bool) -> None:
    """Limit a new process to one thread, since there is one process per core, and silence its stderr.

    Decoders written in C print to stderr: libtiff prints a line for every unknown tag. Pillow raises their errors. The fast decoder
    needs torch.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if with_torch:
        importlib.import_module("torch")
    threadpool_limits(1)
