"""The preprocessing of decoded images, the only deterministic path from an image to the input of a network.

Validation, eval, predict and the exported graph all call `Preprocess`; there is no second resize. It has two halves:
`canvas` (uint8 of any size to a uint8 square of `image_size`, which the store keeps) and `normalise` (uint8 to float).

`cnnkit.model.canvas` computes canvases in blocks. `Preprocess.forward` is the same map as two dense matrix products, which an exported
graph can hold. Both have the same filter weights and exact sums, so they result in the same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnnkit.model.canvas import LUMA_UNIT, LUMA_WEIGHTS, WEIGHT_UNIT, filter_weights, make_canvas, make_canvases, scales
from cnnkit.model.preprocessing import PAD_LEVEL, Preprocessing


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
        return self.normalise(self.resample(images))

    def canvas(self, images: Tensor) -> Tensor:
        """Map uint8 images (N, H, W, 3) of any size to uint8 images (N, C, S, S), resized and cropped."""
        return torch.from_numpy(make_canvas(images.cpu().numpy(), self.spec))

    def canvases(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Map decoded images, uint8 (H, W, 3) of any and differing sizes, to uint8 canvases (N, C, S, S)."""
        return torch.from_numpy(make_canvases(images, self.spec))

    def normalise(self, canvas: Tensor) -> Tensor:
        """Map images (N, C, S, S) with values 0..255 to float32 images of zero mean and unit scale."""
        return (canvas.float() - self.mean) / self.std

    def resample(self, images: Tensor) -> Tensor:
        """Resize and crop to (N, C, S, S), float32 whole numbers 0..255."""
        height = torch.scalar_tensor(images.shape[1], dtype=torch.float32)
        width = torch.scalar_tensor(images.shape[2], dtype=torch.float32)
        scale_y, scale_x = scales(torch, height, width, self.spec)
        rows, has_row = self._weights(images.shape[1], scale_y)
        columns, has_column = self._weights(images.shape[2], scale_x)
        planes = images.permute(0, 3, 1, 2).float() @ columns.T.to(images.device)
        planes = _divide(planes, WEIGHT_UNIT).clamp(0, 255)
        planes = _divide(rows.to(planes) @ planes, WEIGHT_UNIT).clamp(0, 255)
        if self.spec.channels == 1:
            luma = torch.tensor(LUMA_WEIGHTS, dtype=planes.dtype, device=planes.device).view(1, 3, 1, 1)
            planes = _divide((planes * luma).sum(1, keepdim=True), LUMA_UNIT)
        if self.spec.resize_mode == "pad":
            inside = has_row[:, None] & has_column[None, :]
            planes = torch.where(inside.to(planes.device), planes, PAD_LEVEL)
        return planes

    def _weights(self, pixels: int, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return `filter_weights` of a line, (S, pixels), and its outputs inside the image, (S,)."""
        size = self.spec.image_size
        outputs, inputs = torch.arange(size) + 0.5 - size / 2, (torch.arange(pixels) + 0.5)[None, :]
        length = torch.scalar_tensor(pixels, dtype=torch.float32)
        return filter_weights(torch, outputs, inputs, length, scale, cubic=self.spec.interpolation == "bicubic")


def _divide(values: Tensor, unit: float) -> Tensor:
    """Divide by `unit` and round halves up; exact in float32 for a power of two."""
    return torch.floor(values / unit + 0.5)
