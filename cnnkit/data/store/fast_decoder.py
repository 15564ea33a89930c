"""Faster decoder for JPEG: torchcodec, from the extra ``fast``. It is used only if its pixels equal Pillow's.

It decodes only large files, and only if torch is loaded already, as in training. Loading torch would take longer than the decoder saves
on a hundred large photos: see docs/benchmarks/RESULTS.md, "The decoder".

Pillow and torchcodec both use libjpeg-turbo and give bit-equal pixels, also for damaged files. Other formats stay with Pillow, since
GIF, AVIF and 16-bit PNG with alpha differ. Pillow also reads the orientation of photos.
"""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    import torch

JpegDecoder = Callable[[bytes], "NDArray[np.uint8] | None"]
MIN_BYTES = 100_000  # of a file, about a megapixel; both decoders take the same time for smaller files
# ITU-T T.81, table B.1: the prefix of markers, the marker before the pixels, APP1 (EXIF and XMP), and the markers without a length.
_MARKER_PREFIX, _SCAN_MARKER, _METADATA_MARKER = 0xFF, 0xDA, 0xE1
_MARKERS_WITHOUT_LENGTH = frozenset({0x01, 0xFF, *range(0xD0, 0xDA)})


def jpeg_decoder(size: int) -> JpegDecoder | None:
    """Return a decoder for a JPEG of `size` bytes, or None if Pillow must decode it.

    The decoder returns uint8 RGB (H, W, 3) in the stored orientation, or None for a file that it refuses or does not understand.
    Pillow then decodes the file.
    """
    return _checked() if size >= MIN_BYTES and "torch" in sys.modules else None


@cache
def can_decode_faster() -> bool:
    """Return True if torchcodec is installed, without loading it."""
    return find_spec("torchcodec") is not None


@cache
def _checked() -> JpegDecoder | None:
    """Return the decoder of torchcodec if its pixels equal those of the installed Pillow, which may use another libjpeg, else None."""
    try:
        decode = importlib.import_module("torchcodec.decoders").decode_jpeg
    except (ImportError, OSError, RuntimeError, AttributeError):  # not installed, made for another torch, or too old
        return None

    def decoder(data: bytes) -> NDArray[np.uint8] | None:
        return _decode(decode, data)

    return decoder if all(_equal(decoder, sample) for sample in _samples()) else None


def _decode(decode: Callable[[torch.Tensor], torch.Tensor], data: bytes) -> NDArray[np.uint8] | None:
    import torch

    buffer = bytearray(data)
    if not _hide_metadata(buffer):
        return None
    try:
        return decode(torch.frombuffer(buffer, dtype=torch.uint8)).permute(1, 2, 0).contiguous().numpy()
    except RuntimeError:
        return None


def _hide_metadata(buffer: bytearray) -> bool:
    """Blank the EXIF of a JPEG, since torchcodec would turn the image; return False if the structure of the file is unknown."""
    at = 2  # after the start marker
    while at + 4 <= len(buffer) and buffer[at] == _MARKER_PREFIX:
        marker, length = buffer[at + 1], int.from_bytes(buffer[at + 2 : at + 4], "big")
        if marker == _SCAN_MARKER:
            return True
        if marker in _MARKERS_WITHOUT_LENGTH or length < 2:  # noqa: PLR2004 (a length counts its own two bytes)
            return False
        if marker == _METADATA_MARKER:
            payload = slice(at + 4, min(at + 2 + length, len(buffer)))
            buffer[payload] = bytes(payload.stop - payload.start)
        at += 2 + length
    return False


def _samples() -> list[bytes]:
    """Return JPEGs of each chroma sampling, progressive and gray, with a size that is no multiple of their blocks."""
    pixels = np.random.default_rng(0).integers(0, 256, (27, 37, 3), np.uint8)
    colour, gray = Image.fromarray(pixels), Image.fromarray(pixels[:, :, 0])
    options = [{"subsampling": subsampling, "progressive": subsampling == 1} for subsampling in (0, 1, 2)]  # 4:4:4, 4:2:2, 4:2:0
    return [_encode(colour, **option) for option in options] + [_encode(gray)]


def _encode(image: Image.Image, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _equal(decoder: JpegDecoder, data: bytes) -> bool:
    pixels = decoder(data)
    return pixels is not None and np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
