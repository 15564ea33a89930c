"""Random erasing (arXiv:1708.04896) of whole batches: a rectangle of an image gets one colour."""

from __future__ import annotations

import torch
from torch import Tensor

AREA_RANGE = (0.02, 0.33)  # share of the image, as in torchvision's RandomErasing; 0.02 to 0.4 in the paper
ASPECT_RANGE = (0.3, 1 / 0.3)  # height over width: section 4.2 of the paper


def erase(images: Tensor, draws: Tensor, probability: float) -> Tensor:
    """Fill a rectangle with the mean of the image, in about the share `probability` of `images` (N, C, H, W).

    The mean of each image and channel makes the rectangle neither brighter nor darker than the image; the paper takes the mean of all
    data. `draws` (N, 5) in [0, 1) give the decision to erase, area, aspect ratio, horizontal and vertical position.
    """
    height, width = images.shape[2:]
    happens, area, aspect, across, down = draws.T
    area = AREA_RANGE[0] + (AREA_RANGE[1] - AREA_RANGE[0]) * area
    # Tall is as likely as wide. No rectangle is longer than the image: the range is cut where the paper draws again.
    low, high = area.clamp(min=ASPECT_RANGE[0]).log(), (1 / area).clamp(max=ASPECT_RANGE[1]).log()
    aspect = (low + (high - low) * aspect).exp()
    tall = ((area * aspect).sqrt() * height).round().clamp(1, height)
    wide = ((area / aspect).sqrt() * width).round().clamp(1, width)
    top = (down * (height - tall + 1)).floor()
    left = (across * (width - wide + 1)).floor()
    tall = torch.where(happens < probability, tall, torch.zeros_like(tall))
    hidden = rectangles(top, top + tall, left, left + wide, height, width)
    return torch.where(hidden, mean_level(images), images)


def mean_level(images: Tensor) -> Tensor:
    """Return the mean (N, C, 1, 1) of each image and channel, rounded to a whole level if `images` are bytes."""
    mean = images.mean((2, 3), keepdim=True, dtype=torch.float32)
    return mean if images.is_floating_point() else mean.round().to(images.dtype)


def rectangles(top: Tensor, bottom: Tensor, left: Tensor, right: Tensor, height: int, width: int) -> Tensor:
    """Return a mask (N, 1, `height`, `width`) of rectangles whose edges are (N,); `bottom` and `right` are exclusive."""
    rows, columns = torch.arange(height, device=top.device), torch.arange(width, device=top.device)
    vertical = (rows >= top[:, None]) & (rows < bottom[:, None])
    horizontal = (columns >= left[:, None]) & (columns < right[:, None])
    return vertical[:, None, :, None] & horizontal[:, None, None, :]
