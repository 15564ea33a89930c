"""Thumbnails of images for pages and contact sheets."""

from __future__ import annotations

import base64
import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL_SIZE = 128  # px of the longer edge: enough to recognise a photo, 20 to 40 kB as a PNG


def shrunk(image: NDArray[np.uint8], size: int = THUMBNAIL_SIZE) -> NDArray[np.uint8]:
    """Return uint8 RGB (H, W, 3) averaged down to `size` px on the longer edge; a smaller image stays unchanged."""
    longest = max(image.shape[:2])
    if longest <= size:
        return image
    height, width = (max(1, round(pixels * size / longest)) for pixels in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def png(image: NDArray[np.uint8]) -> bytes:
    """Return uint8 RGB (H, W, 3) as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def webp(image: NDArray[np.uint8]) -> bytes:
    """Return uint8 RGB (H, W, 3) as a WebP file, smaller than a JPEG: see docs/benchmarks/LOG.md, "Small pictures of a page"."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", quality=80, method=2)
    return file.getvalue()


def data_uri(file: bytes, kind: Literal["png", "webp"] = "png") -> str:
    """Return the data URI of an image file."""
    return f"data:image/{kind};base64," + base64.b64encode(file).decode("ascii")
