"""The results of the functions of metrics, losses and augmentations, checked in one way by contract tests and by commands."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from cnnkit.extension.values import Metric

MAX_LEVEL = 255.0  # of an image
LEVEL_TOLERANCE = 1e-2  # beyond the range of levels, which a sum of many products may pass


def shown(found: object) -> str:
    """Return type and shape of a tensor, such as ``float32 of shape (2, 3)``, or the type of another value, such as ``a list``."""
    if isinstance(found, Tensor):
        return f"{str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}"
    return f"a {type(found).__name__}"


def is_number(found: object) -> bool:
    """Return True for one number of Python or numpy; a truth value is none."""
    return isinstance(found, int | float | np.integer | np.floating) and not isinstance(found, bool | np.bool_)


def is_possible(value: float, metric: Metric, tolerance: float = 0.0) -> bool:
    """Return True if `value` is finite and at most `tolerance` beyond the bounds of `metric`, or NaN for a score that is not defined."""
    low, high = metric.bounds or (-math.inf, math.inf)
    return math.isnan(value) or (math.isfinite(value) and low - tolerance <= value <= high + tolerance)


def are_losses(found: object, count: int, classes: int) -> bool:
    """Return True for floats of shape (`count`,) or (`count`, `classes`)."""
    return isinstance(found, Tensor) and found.shape in {(count,), (count, classes)} and found.is_floating_point()


def are_images(found: object, shape: torch.Size) -> bool:
    """Return True for float32 or uint8 of the `shape` of the images before the augmentation."""
    return isinstance(found, Tensor) and found.shape == shape and found.dtype in {torch.float32, torch.uint8}


def wrong_levels(found: Tensor) -> str:
    """Return the range of the levels in words if it is beyond 0 to 255 or holds NaN, else an empty text."""
    low, high = (float(level) for level in found.aminmax())
    return "" if low >= -LEVEL_TOLERANCE and high <= MAX_LEVEL + LEVEL_TOLERANCE else f"levels from {low:g} to {high:g}"
