"""What all methods have in common: the classes they are asked about, and from values at places to a map of the canvas."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from cnnkit.errors import CnnkitError


def class_numbers(classes: ArrayLike, images: int, known: int) -> Tensor:
    """Return `classes` as int64 (N,); raises `CnnkitError` unless they are N = `images` numbers of `known` classes."""
    numbers = torch.as_tensor(np.asarray(classes, np.int64))
    if numbers.shape != (images,) or (images and not 0 <= int(numbers.min()) <= int(numbers.max()) < known):
        raise CnnkitError(f"classes must be {images} numbers from 0 to {known - 1}, one for each canvas")
    return numbers


def heat(maps: Tensor, size: int) -> NDArray[np.float32]:
    """Return maps (N, h, w) as heat (N, `size`, `size`) in [0, 1]: what speaks against the class is 0, the most of each image 1.

    Enlarged bilinearly. A map without a positive value stays zero.
    """
    large = F.interpolate(maps.float().clamp(min=0)[:, None], (size, size), mode="bilinear")[:, 0]
    most = large.amax((1, 2), keepdim=True)
    return torch.where(most > 0, large / most.clamp(min=torch.finfo(torch.float32).tiny), 0.0).cpu().numpy()
