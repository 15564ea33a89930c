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
from cnnkit.data.source import Record, Source, StoredImage
from cnnkit.data.store.facts import LOOK_SIZE, THUMBNAIL_SIZE, DecodedImage, Facts, decode, measure
from cnnkit.model.canvas import make_canvases
from cnnkit.model.preprocessing import DRAFT_SIDE

if TYPE_CHECKING:
    from cnnkit.model.preprocessing import Preprocessing

ReadResult = StoredImage | str  # an image of a source, or the reason why it cannot be read


class Block(NamedTuple):
    """Results for n images: facts, thumbnails uint8 (n, T, T, 3), looks uint8 (n, L, L) and, with a geometry, canvases uint8 (n, C, S, S).

    An unreadable image has the reason in its facts, and a black thumbnail, look and canvas. Images that are not measured have no
    thumbnails and looks.
    """

    facts: list[Facts]
    thumbnails: NDArray[np.uint8]
    looks: NDArray[np.uint8]
    canvases: NDArray[np.uint8] | None

    @classmethod
    def join(cls, parts: Sequence[Block]) -> Block:
        """Return the concatenation of blocks."""
        canvases = [part.canvases for part in parts if part.canvases is not None]
        facts = [item for part in parts for item in part.facts]
        thumbnails, looks = np.concatenate([part.thumbnails for part in parts]), np.concatenate([part.looks for part in parts])
        return cls(facts, thumbnails, looks, np.concatenate(canvases) if canvases else None)


def read_all(source: Source, records: Sequence[Record]) -> list[ReadResult]:
    """Return the stored images of `records`, or the reason for an image that cannot be read."""
    found: list[ReadResult] = []
    for record in records:
        try:
            found.append(source.read(record))
        except UndecodableError as error:
            found.append(str(error))
    return found


def decode_block(stored: Sequence[ReadResult], geometry: Preprocessing | None, *, measured: bool = True) -> Block:
    """Decode some images and, with a `geometry`, make their canvases; unless `measured`, facts hold only SHA-256 and error."""
    decoded: list[DecodedImage] = []
    images: list[NDArray[np.uint8]] = []
    rows: list[int] = []
    canvas_side = geometry.draft_side if geometry else DRAFT_SIDE
    side = DRAFT_SIDE if measured else canvas_side
    facts = [Facts(error=item) if isinstance(item, str) else Facts() for item in stored]
    for row, item in enumerate(stored):
        if isinstance(item, str):
            continue
        try:
            found = decode(item, side)
            again = drafts_differ(found.header, side, canvas_side)
            images.append(decode(item, canvas_side).image if again else found.image)
            decoded.append(found)
            rows.append(row)
        except UndecodableError as error:
            facts[row] = Facts(error=str(error), bytes=len(item) if isinstance(item, bytes) else 0)
    pictured = len(stored) if measured else 0
    thumbnails = np.zeros((pictured, THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3), np.uint8)
    looks = np.zeros((pictured, LOOK_SIZE, LOOK_SIZE), np.uint8)
    if measured:
        measurements, thumbnails[rows], looks[rows] = measure(decoded)
    else:
        measurements = [Facts(sha256=item.sha256) for item in decoded]
    for row, item in zip(rows, measurements, strict=True):
        facts[row] = item
    if geometry is None:
        return Block(facts, thumbnails, looks, None)
    canvases = np.zeros((len(stored), geometry.channels, geometry.image_size, geometry.image_size), np.uint8)
    canvases[rows] = make_canvases(images, geometry)
    return Block(facts, thumbnails, looks, canvases)


def prepare_worker(*, with_torch: bool) -> None:
    """Limit a new process to one thread, since there is one process per core, and silence its stderr.

    Decoders written in C print to stderr: libtiff prints a line for every unknown tag. Pillow raises their errors. The fast decoder
    needs torch.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if with_torch:
        importlib.import_module("torch")
    threadpool_limits(1)
