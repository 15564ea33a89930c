"""The grid of positions at which an affine transform samples each image of a batch."""

from __future__ import annotations

import torch
from torch import Tensor


def sampling_grid(theta: Tensor, height: int, width: int) -> Tensor:
    """Return the grid (N, H, W, 2) of `torch.nn.functional.affine_grid`, without a matrix product per point.

    The sum of a row term and a column term is faster: see docs/benchmarks/LOG.md, "Grid of rotation and zoom".
    """
    rows = _centres(height, theta) * theta[:, :, 1, None] + theta[:, :, 2, None]
    columns = _centres(width, theta) * theta[:, :, 0, None]
    return (rows[:, :, :, None] + columns[:, :, None, :]).permute(0, 2, 3, 1)


def _centres(size: int, like: Tensor) -> Tensor:
    """Return the centres (size,) of `size` pixels on a line from -1 to 1."""
    return (2 * torch.arange(size, dtype=like.dtype, device=like.device) + 1) / size - 1
