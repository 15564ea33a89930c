"""Appearance of images in a few numbers, measured on the canvas that the network sees, for the detection of drift."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.store.facts import LUMA_WEIGHTS, laplacian

_GRAY_FEATURES = ("brightness", "contrast", "sharpness")
_COLOUR_FEATURES = ("saturation", "warmth")
_MIN_CONTRAST = 1e-4  # a fortieth of a gray level: only rounding errors are smaller


def features(channels: int) -> tuple[str, ...]:
    """Return the names of the columns of `appearance` for canvases with `channels` channels."""
    return _GRAY_FEATURES if channels == 1 else (*_GRAY_FEATURES, *_COLOUR_FEATURES)


def appearance(canvases: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the appearance (N, F) of canvases (N, C, S, S), one column for each of `features`.

    Pixels are on the [0, 1] scale. Brightness is the mean and contrast the standard deviation of the luma. Sharpness is the standard
    deviation of the luma's Laplacian, divided by the contrast. Saturation is the mean distance between the strongest and the weakest
    channel, warmth the mean of red minus blue. A darker room, a fogged lens, a camera out of focus, a gray sensor and swapped
    channels each change one feature.
    """
    pixels = canvases.astype(np.float32) / 255
    luma = (pixels[:, 0] if canvases.shape[1] == 1 else np.einsum("c,nchw->nhw", LUMA_WEIGHTS, pixels)).astype(np.float32)
    contrast = luma.std((1, 2))
    edges = laplacian(luma).std((1, 2)) if canvases.shape[2] > 2 else np.zeros_like(contrast)  # noqa: PLR2004 (a pixel and its two neighbours)
    columns = [luma.mean((1, 2)), contrast, np.divide(edges, contrast, out=np.zeros_like(edges), where=contrast > _MIN_CONTRAST)]
    if canvases.shape[1] > 1:
        columns += [np.ptp(pixels, axis=1).mean((1, 2)), (pixels[:, 0] - pixels[:, 2]).mean((1, 2))]
    return np.stack(columns, axis=1)
