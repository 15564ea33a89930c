"""A heat map laid over the image it explains."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

DIMMED = 0.55  # of the light of the image, in gray: so that every colour seen is heat
STRONGEST = 0.8  # how far the warmest place covers the image


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return uint8 RGB (H, W, 3): `image` (H, W, 3) in dim gray, glowing from violet to yellow with `heat` (H, W) in [0, 1]."""
    gray = DIMMED * image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    cover = STRONGEST * heat[..., None]
    glow = 255 * colormaps["inferno"](heat)[..., :3]
    return np.rint((1 - cover) * gray + cover * glow).clip(0, 255).astype(np.uint8)
