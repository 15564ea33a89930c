"""Layers with twin channels, for networks that give an image and its left-right mirror image the same logits.

Mirroring the image mirrors all maps and swaps each channel with its twin. One half of the filters is learned, the other half
are their mirror images, so each step trains both. This is the group convolution of Cohen and Welling (arXiv:1602.07576,
section 6) for the group of one reflection. It takes the time of an ordinary convolution with half of the parameters.

The twins of the first half of a layer's channels are the second half, in the same order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MirroredConv2d(nn.Module):
    """A convolution, (N, I, H, W) to (N, O, H, W), with filters `weight` (O / 2, I, h, w) and their mirror images.

    `twins` (I,) holds the index of each input's twin; by default the twins are the other half of the inputs. `weight` starts
    as the filters of `convolution`, which must have an even number of outputs and no bias.
    """

    twins: Tensor

    def __init__(self, convolution: nn.Conv2d, twins: Tensor | None = None) -> None:
        super().__init__()
        inputs, outputs = convolution.in_channels, convolution.out_channels
        self.weight = nn.Parameter(convolution.weight.detach()[: outputs // 2].clone())
        self.register_buffer("twins", torch.arange(inputs).roll(inputs // 2) if twins is None else twins, persistent=False)
        self._padding = convolution.padding

    def forward(self, maps: Tensor) -> Tensor:
        """Apply every filter and its mirror image."""
        mirrored = self.weight[:, self.twins].flip(3)
        return F.conv2d(maps, torch.cat([self.weight, mirrored]), padding=self._padding)


class MirroredBatchNorm2d(nn.BatchNorm2d):
    """A batch normalisation of (N, C, H, W) with the same statistics, weight and bias for twins; ``num_features`` is C / 2."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (its name in nn.BatchNorm2d)
        """Normalise twins as one channel with twice as many values."""
        maps = input
        if not self.training:
            mean, variance, weight, bias = (
                None if values is None else values.repeat(2) for values in (self.running_mean, self.running_var, self.weight, self.bias)
            )
            return F.batch_norm(maps, mean, variance, weight, bias, eps=self.eps)
        count, channels, height, width = maps.shape
        if maps.is_contiguous():
            return super().forward(maps.view(2 * count, channels // 2, height, width)).view(maps.shape)
        last = maps.permute(0, 2, 3, 1).reshape(count, height, 2 * width, channels // 2)  # channels last: without a copy
        return super().forward(last.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).reshape(count, height, width, channels).permute(0, 3, 1, 2)


class TwinMean(nn.Module):
    """The mean of twins, (N, C) to (N, C / 2), which is the same for an image and its mirror image."""

    def forward(self, features: Tensor) -> Tensor:
        """Average the two halves."""
        first, second = features.chunk(2, dim=1)
        return (first + second) / 2
