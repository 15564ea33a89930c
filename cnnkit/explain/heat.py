"""Helpers of all methods: the check of the classes to explain, and the scaling of maps to heat maps of the canvas."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from cnnkit.errors import CnnkitError


def to_class_indices(classes: ArrayLike, images: int, known: int) -> Tensor:
    """Return `classes` as int64 (N,); raises `CnnkitError` unless they are N = `images` indices of `known` classes."""
    indices = torch.as_tensor(np.asarray(classes, np.int64))
    if indices.shape != (images,) or (images and not 0 <= int(indices.min()) <= int(indices.max()) < known):
        raise CnnkitError(f"classes must be {images} class indices from 0 to {known - 1}, one per canvas")
    return indices


def heat(maps: Tensor, size: int) -> NDArray[np.float32]:
    """Return maps (N, h, w), enlarged bilinearly, as heat (N, `size`, `size`) in [0, 1].

    Negative values, which are evidence against the class, become 0, and the largest value of each image becomes 1. A map
    without a positive value stays zero.
    """
    large = F.interpolate(maps.float().clamp(min=0)[:, None], (size, size), mode="bilinear")[:, 0]
    most = large.amax((1, 2), keepdim=True)
    return torch.where(most > 0, large / most.clamp(min=torch.finfo(torch.float32).tiny), 0.0).cpu().numpy()
