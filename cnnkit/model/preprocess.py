"""The one deterministic path from a decoded image to what a model sees.

Training-time validation, eval, predict and the exported graph all call `Preprocess`; there is no second resize. It has
two halves: `canvas` (uint8 any size -> uint8 `image_size` square, what the store keeps) and `normalise` (uint8 -> float).

Resizing and cropping are one linear map, computed as two matrix products with anti-aliasing filter weights. As in Pillow
the weights are whole numbers and each product is rounded to whole levels, so every sum is exact in float32 whatever its
order: one image or a batch, torch or onnxruntime, give the same pixels. An opaque resize operator does not promise that. It
costs more than torch's resize, once per image since the store keeps it: see docs/benchmarks/LOG.md, "Exact resize".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnnkit.model.preprocessing import PAD_LEVEL, Preprocessing, group_by_shape

# Filter weights are whole numbers that sum to about this: 2^15 times 255, with a cubic's negative lobes, stays below the 2^24
# up to which float32 counts exactly. Their own rounding moves a pixel by at most 0.3 level where an image is shrunk up to
# 200-fold: see docs/benchmarks/LOG.md, "Exact resize".
UNIT = 2.0**15
STRIP = 2**22  # pixels that are floats at a time: 50 MB, where the largest image that is allowed would take 1.2 GB
# Pixels, read or made, up to which small images of one shape are resized together: more leave the cache of one core, see
# docs/benchmarks/LOG.md, "Resizing small images together".
TOGETHER = 2**16
# ITU-R BT.601 luma in units of 2^-16: the whole numbers of Pillow's convert("L").
LUMA = (19595.0, 38470.0, 7471.0)
LUMA_UNIT = 2.0**16


class Preprocess(nn.Module):
    """The preprocessing that `spec` describes, as a module without parameters."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: Preprocessing) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("mean", 255 * torch.tensor(spec.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(spec.std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 images (N, H, W, 3) of any size to normalised float32 images (N, C, S, S)."""
        return self.normalise(self._resample(images))

    def canvas(self, images: Tensor) -> Tensor:
        """Map uint8 images (N, H, W, 3) of any size to uint8 images (N, C, S, S), resized and cropped."""
        if self._changes_nothing(images):
            return images.permute(0, 3, 1, 2).contiguous()
        lines = max(1, STRIP // (images.shape[0] * images.shape[2]))
        return self._resample(images, lines).to(torch.uint8)

    def canvases(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Map decoded images, uint8 (H, W, 3) of any and differing sizes, to uint8 canvases (N, C, S, S).

        The sums are exact, so each comes out as it would alone.
        """
        size = self.spec.image_size
        made = torch.empty((len(images), self.spec.channels, size, size), dtype=torch.uint8)
        for rows in group_by_shape(images):
            height, width, _ = images[rows[0]].shape
            together = max(1, TOGETHER // max(height * width, size * size))
            for start in range(0, len(rows), together):
                some = rows[start : start + together]
                made[some] = self.canvas(torch.from_numpy(np.stack([images[row] for row in some])))
        return made

    def normalise(self, canvas: Tensor) -> Tensor:
        """Map images (N, C, S, S) with values 0..255 to float32 images of zero mean and unit scale."""
        return (canvas.float() - self.mean) / self.std

    def _changes_nothing(self, images: Tensor) -> bool:
        """Whether the two matrices would be identities: the same bytes at a tenth of the cost (every CIFAR image)."""
        size, spec = self.spec.image_size, self.spec
        keeps = spec.resize_mode != "crop" or spec.crop == 1
        return keeps and spec.channels == 3 and tuple(images.shape[1:3]) == (size, size)  # noqa: PLR2004 (RGB)

    def _resample(self, images: Tensor, lines: int | None = None) -> Tensor:
        """Resize and crop to (N, C, S, S); float32 whole numbers 0..255. With `lines`, so many lines at a time are floats."""
        size, mode, cubic = self.spec.image_size, self.spec.resize_mode, self.spec.interpolation == "bicubic"
        height = torch.scalar_tensor(images.shape[1], dtype=torch.float32)
        width = torch.scalar_tensor(images.shape[2], dtype=torch.float32)
        if mode == "squash":
            scale_y, scale_x = height / size, width / size
        elif mode == "pad":
            scale_y = scale_x = torch.maximum(height, width) / size
        else:
            scale_y = scale_x = torch.minimum(height, width) * self.spec.crop / size
        rows = _taps(images.shape[1], size, scale_y, cubic=cubic)
        columns = _taps(images.shape[2], size, scale_x, cubic=cubic)
        across = columns.T.to(images.device)
        parts = [images] if lines is None else images.split(lines, dim=1)
        planes = torch.cat([_whole(part.permute(0, 3, 1, 2).float() @ across, UNIT).clamp(0, 255) for part in parts], dim=2)
        planes = _whole(rows.to(planes) @ planes, UNIT).clamp(0, 255)
        if self.spec.channels == 1:
            luma = torch.tensor(LUMA, dtype=planes.dtype, device=planes.device).view(1, 3, 1, 1)
            planes = _whole((planes * luma).sum(1, keepdim=True), LUMA_UNIT)
        if mode == "pad":
            inside = (rows.sum(1) > 0)[:, None] & (columns.sum(1) > 0)[None, :]
            planes = torch.where(inside.to(planes.device), planes, PAD_LEVEL)
        return planes


def _whole(values: Tensor, unit: float) -> Tensor:
    """Divide by `unit` and round halves up; exact in float32 for a power of two."""
    return torch.floor(values / unit + 0.5)


def _taps(pixels: int, size: int, scale: Tensor, *, cubic: bool) -> Tensor:
    """Filter weights (size, pixels), whole numbers of 1/`UNIT`, that resample a centred window of a line of pixels.

    Output pixel i looks at input coordinate ``pixels / 2 + (i + 0.5 - size / 2) * scale``. The filter is a triangle or
    Keys' cubic with a = -0.5, stretched by `scale` when shrinking: what Pillow and torch's antialias=True use. A row
    whose centre falls outside the image is zero (padding), but one line of pixels always remains.
    """
    length = torch.scalar_tensor(pixels, dtype=torch.float32)
    offsets = (torch.arange(size) + 0.5 - size / 2) * scale
    centres = length / 2 + offsets
    distance = ((torch.arange(pixels) + 0.5)[None, :] - centres[:, None]).abs() / scale.clamp(min=1.0)
    if cubic:
        near = (1.5 * distance - 2.5) * distance * distance + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))  # noqa: PLR2004
    else:
        weights = (1 - distance).clamp(min=0)
    weights = torch.round(weights * UNIT)
    inside = (offsets.abs() <= torch.maximum(length, scale) / 2).float()[:, None]
    return inside * torch.round(weights / weights.sum(1, keepdim=True).clamp(min=1) * UNIT)
