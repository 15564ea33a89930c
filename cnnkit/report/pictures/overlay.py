"""A heat map laid over the image it explains."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

COLOURS = "viridis"  # lightness rises evenly from purple to yellow, and is told apart by the colour-blind (matplotlib)
LINE_FROM = 96  # px of a side: on smaller pictures a line would hide what it encloses
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_GRAYS = (0.12, 0.88)  # the image under the colours keeps clear of black and white, where a hue cannot be seen
_OPACITY = (0.30, 0.70)  # of the colour, where there is no evidence and where there is most
_HALF = 0.5  # of the most: where the line is drawn


def overlay(canvas: NDArray[np.uint8], heat: NDArray[np.float32], side: int = 0) -> NDArray[np.uint8]:
    """Return `heat` (S, S) in [0, 1] in colour over the gray `canvas` (S, S, 3), small ones enlarged to nearly `side` px.

    Gray because the colours of an image would pass for heat, and not too dark or light to be tinted; the line at half of
    the most has a white and a black edge, so that it shows on any image.
    """
    factor = max(1, side // len(canvas))
    gray = np.kron(canvas @ _LUMA / 255, np.ones((factor, factor)))
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(gray.shape[::-1], Image.Resampling.BILINEAR)).clip(0, 1)
    colour = colormaps[COLOURS](smooth)[..., :3]
    opacity = (_OPACITY[0] + (_OPACITY[1] - _OPACITY[0]) * smooth)[..., None]
    base = (_GRAYS[0] + (_GRAYS[1] - _GRAYS[0]) * gray)[..., None]
    mixed = np.rint(255 * (base + (colour - base) * opacity)).astype(np.uint8)
    if len(mixed) >= LINE_FROM:
        inner, outer = _edges(smooth >= _HALF)
        mixed[outer], mixed[inner] = 0, 255
    return mixed


def _edges(inside: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The pixels on either side of the border of `inside`."""
    padded = np.pad(inside, 1, mode="edge")
    shifted = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
    return inside & ~np.logical_and.reduce(shifted), ~inside & np.logical_or.reduce(shifted)
