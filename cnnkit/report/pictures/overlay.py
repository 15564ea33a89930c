"""Heat maps over the images that they explain."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

COLOUR_MAP = "viridis"  # its lightness rises evenly from purple to yellow, which colour-blind people see too (matplotlib)
MIN_OUTLINED_SIZE = 96  # px; a line on a smaller picture would hide its content
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_GRAY_RANGE = (0.12, 0.88)  # of the image under the colours, because black and white hide a hue
_OPACITY_RANGE = (0.30, 0.70)  # of the colour, from no evidence to most evidence
_LINE_LEVEL = 0.5  # of the maximum


def overlay(canvas: NDArray[np.uint8], heat: NDArray[np.float32], size: int = 0) -> NDArray[np.uint8]:
    """Return `heat` (S, S) in [0, 1] in colour over the gray `canvas` (S, S, 3), small ones enlarged to nearly `size` px.

    The canvas is gray because the colours of an image would look like heat, and neither black nor white, so that a tint shows. The line
    at half of the maximum has a white and a black edge, so that it shows on any image.
    """
    factor = max(1, size // len(canvas))
    gray = np.kron(canvas @ _LUMA / 255, np.ones((factor, factor)))
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(gray.shape[::-1], Image.Resampling.BILINEAR)).clip(0, 1)
    colour = colormaps[COLOUR_MAP](smooth)[..., :3]
    opacity = (_OPACITY_RANGE[0] + (_OPACITY_RANGE[1] - _OPACITY_RANGE[0]) * smooth)[..., None]
    base = (_GRAY_RANGE[0] + (_GRAY_RANGE[1] - _GRAY_RANGE[0]) * gray)[..., None]
    mixed = np.rint(255 * (base + (colour - base) * opacity)).astype(np.uint8)
    if len(mixed) >= MIN_OUTLINED_SIZE:
        inner, outer = _edges(smooth >= _LINE_LEVEL)
        mixed[outer], mixed[inner] = 0, 255
    return mixed


def _edges(inside: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the pixels along the border of `inside`: the inner pixels and the outer pixels."""
    padded = np.pad(inside, 1, mode="edge")
    shifted = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
    return inside & ~np.logical_and.reduce(shifted), ~inside & np.logical_or.reduce(shifted)
