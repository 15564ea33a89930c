"""The preprocessing of decoded images, the only deterministic path from an image to the input of a network.

Validation, eval, predict and the exported graph all call `Preprocess`; there is no second resize. It has two halves:
`canvas` (uint8 of any size to a uint8 square of `image_size`, which the store keeps) and `normalise` (uint8 to float).

Resizing and cropping are one linear map, computed as two matrix products with antialiasing filter weights. As in Pillow,
the weights are whole numbers and each product is rounded to whole levels. So every sum is exact in float32, in any order:
one image or a batch, torch or onnxruntime, result in the same pixels. A built-in resize operator does not promise that. The
exact resize is slower than torch's, but the store keeps its result: see docs/benchmarks/LOG.md, "Exact resize".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnnkit.model.preprocessing import PAD_LEVEL, Preprocessing, group_by_shape

# The approximate sum of the filter weights, which are whole numbers. 2^15 times 255, with the negative lobes of a cubic, stays
# below 2^24, the limit of exact whole numbers in float32. Rounding the weights moves a pixel by at most 0.3 level for an image
# shrunk up to 200-fold: see docs/benchmarks/LOG.md, "Exact resize".
WEIGHT_UNIT = 2.0**15
MAX_STRIP_PIXELS = 2**22  # that are floats at a time: 50 MB, where the largest allowed image would take 1.2 GB
# Read or written pixels of small images of one shape that are resized together. More leave the cache of one core: see
# docs/benchmarks/LOG.md, "Resizing small images together".
MAX_GROUP_PIXELS = 2**16
# ITU-R BT.601 luma in units of 2^-16: the whole numbers of Pillow's convert("L").
LUMA_WEIGHTS = (19595.0, 38470.0, 7471.0)
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
        if self._is_identity(images):
            return images.permute(0, 3, 1, 2).contiguous()
        lines = max(1, MAX_STRIP_PIXELS // (images.shape[0] * images.shape[2]))
        return self._resample(images, lines).to(torch.uint8)

    def canvases(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Map decoded images, uint8 (H, W, 3) of any and differing sizes, to uint8 canvases (N, C, S, S).

        Each canvas equals that of its image alone, because the sums are exact.
        """
        size = self.spec.image_size
        canvases = torch.empty((len(images), self.spec.channels, size, size), dtype=torch.uint8)
        for rows in group_by_shape(images):
            height, width, _ = images[rows[0]].shape
            count = max(1, MAX_GROUP_PIXELS // max(height * width, size * size))
            for start in range(0, len(rows), count):
                group = rows[start : start + count]
                canvases[group] = self.canvas(torch.from_numpy(np.stack([images[row] for row in group])))
        return canvases

    def normalise(self, canvas: Tensor) -> Tensor:
        """Map images (N, C, S, S) with values 0..255 to float32 images of zero mean and unit scale."""
        return (canvas.float() - self.mean) / self.std

    def _is_identity(self, images: Tensor) -> bool:
        """Return whether both matrices would be identities, so that a copy has the same bytes at a tenth of the cost."""
        size, spec = self.spec.image_size, self.spec
        keeps = spec.resize_mode != "crop" or spec.crop == 1
        return keeps and spec.channels == 3 and tuple(images.shape[1:3]) == (size, size)  # noqa: PLR2004 (RGB)

    def _resample(self, images: Tensor, lines: int | None = None) -> Tensor:
        """Resize and crop to (N, C, S, S), float32 whole numbers 0..255; convert `lines` lines to floats at a time, or all."""
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
        planes = torch.cat([_divide(part.permute(0, 3, 1, 2).float() @ across, WEIGHT_UNIT).clamp(0, 255) for part in parts], dim=2)
        planes = _divide(rows.to(planes) @ planes, WEIGHT_UNIT).clamp(0, 255)
        if self.spec.channels == 1:
            luma = torch.tensor(LUMA_WEIGHTS, dtype=planes.dtype, device=planes.device).view(1, 3, 1, 1)
            planes = _divide((planes * luma).sum(1, keepdim=True), LUMA_UNIT)
        if mode == "pad":
            inside = (rows.sum(1) > 0)[:, None] & (columns.sum(1) > 0)[None, :]
            planes = torch.where(inside.to(planes.device), planes, PAD_LEVEL)
        return planes


def _divide(values: Tensor, unit: float) -> Tensor:
    """Divide by `unit` and round halves up; exact in float32 for a power of two."""
    return torch.floor(values / unit + 0.5)


def _taps(pixels: int, size: int, scale: Tensor, *, cubic: bool) -> Tensor:
    """Return the filter weights (size, pixels) that resample a centred window of a line, as multiples of 1/`WEIGHT_UNIT`.

    The centre of output pixel i is the input coordinate ``pixels / 2 + (i + 0.5 - size / 2) * scale``. The filter is a
    triangle or Keys' cubic with a = -0.5, stretched by `scale` when shrinking, as in Pillow and torch's antialias=True. A
    row whose centre is outside the image is zero (padding), but at least one row is not.
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
    weights = torch.round(weights * WEIGHT_UNIT)
    inside = (offsets.abs() <= torch.maximum(length, scale) / 2).float()[:, None]
    return inside * torch.round(weights / weights.sum(1, keepdim=True).clamp(min=1) * WEIGHT_UNIT)
