"""Random Gaussian blur for cnnkit: whole batches on the device, with another width for every image."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from cnnkit import Augmentation

MIN_SIGMA = 0.1  # px: a narrower kernel leaves an image as it is
REACH = 3  # standard deviations of a kernel; the rest holds 0.3 % of its weight


def apply(images: Tensor, draws: Tensor, *, sigma: float = 1.5, probability: float = 0.5) -> Tensor:
    """Blur `images` (n, C, H, W) by Gaussians of `MIN_SIGMA` to `sigma` pixels, each image with the given `probability`.

    `draws` (n, 2) in [0, 1) give the decision to blur and the standard deviation. Pixels from outside an image are its reflection.
    """
    if not MIN_SIGMA <= sigma <= 100:  # noqa: PLR2004 (px: more leaves one colour)
        raise ValueError(f"sigma={sigma:g} must be from {MIN_SIGMA} to 100 pixels")
    if not 0 <= probability <= 1:
        raise ValueError(f"probability={probability:g} must be a share from 0 to 1")
    widths = MIN_SIGMA + (sigma - MIN_SIGMA) * draws[:, 1]
    radius = min(math.ceil(REACH * sigma), min(images.shape[2:]) - 1)  # a reflection needs pixels
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernels = torch.exp(-0.5 * (offsets / widths[:, None]) ** 2)
    kernels = kernels / kernels.sum(1, keepdim=True)
    blurred = _along(_along(images, kernels, 2), kernels, 3).clamp(0, 255)
    return torch.where((draws[:, 0] < probability)[:, None, None, None], blurred, images)


def _along(images: Tensor, kernels: Tensor, axis: int) -> Tensor:
    """Return the convolution of each image with its kernel (n, 2R + 1) along `axis`, as a sum of shifted images.

    The sum has the same order in every batch, so an image has the same pixels whatever images stand beside it.
    """
    radius, size = kernels.shape[1] // 2, images.shape[axis]
    padded = functional.pad(images, (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0), mode="reflect")  # noqa: PLR2004 (height)
    total = torch.zeros_like(images)
    for offset, weight in enumerate(kernels.T):
        total.addcmul_(padded.narrow(axis, offset, size), weight[:, None, None, None])
    return total


blur = Augmentation(apply=apply, summary="random Gaussian blur", num_draws=2)
