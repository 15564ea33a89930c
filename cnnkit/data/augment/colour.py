"""Random brightness, contrast and saturation of whole batches, with different factors for every image."""

from __future__ import annotations

import torch
from torch import Tensor

LUMA_WEIGHTS = (0.2989, 0.587, 0.114)  # ITU-R BT.601, rounded as in torchvision: the same gray gives the same contrast and saturation
MAX_LEVEL = 255.0


def jitter(images: Tensor, draws: Tensor, reach: float) -> Tensor:
    """Vary `images` (N, C, S, S), values 0..255, by factors between 1 - `reach` and 1 + `reach`; return float32.

    `draws` (N, 3) in [0, 1) give the factors of brightness, contrast and saturation, which change in this order, as in
    torchvision's ColorJitter. Gray images have no saturation.
    """
    brightness, contrast, saturation = (1 + reach * (2 * draws - 1)).T.reshape(3, -1, 1, 1, 1)
    bright = (images * brightness).clamp_(0, MAX_LEVEL)
    varied = _blend(bright, _gray(bright).mean((2, 3), keepdim=True), contrast)
    return varied if images.shape[1] == 1 else _blend(varied, _gray(varied), saturation)


def _blend(images: Tensor, plain: Tensor, factor: Tensor) -> Tensor:
    """Move `images`, in place, away from their `plain` version (`factor` > 1) or towards it."""
    return torch.lerp(plain, images, factor, out=images).clamp_(0, MAX_LEVEL)


def _gray(images: Tensor) -> Tensor:
    """Return the luma (N, 1, S, S) of colour images; gray images are returned unchanged."""
    if images.shape[1] == 1:
        return images
    red, green, blue = LUMA_WEIGHTS
    return (images[:, :1] * red).add_(images[:, 1:2], alpha=green).add_(images[:, 2:], alpha=blue)
