"""A small network for small images and short trainings: a whitening first layer and three groups of two convolutions.

    images -> conv 2x2 (24, whitens patches) -> 3 x [conv - pool - norm - GELU - conv - norm - GELU] -> max -> Dense(K) * 1/9

The network is a narrower form of airbench94 by Keller Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU"
(arXiv:2404.00498, section 3). Its first layer is not learned: `start_from` sets it to the whitening of the training images'
patches (section 3.2, after David Page and tysam-code). The paper learns a bias of that layer for three epochs. Here it has no
bias, so that no gradient must reach the largest maps. As in the paper, the first layer does not pad and poolings round down:
32 px become 31, 15, 7, 3. See docs/benchmarks/LOG.md, "Parts of the fast recipe".

If training mirrors images, the option `mirror` builds the network so that mirroring an image does not change its logits. Half
of the filters are then mirror images of the others (`cnnkit.architectures.mirrored`). See docs/benchmarks/LOG.md, "Mirrored
filters in two minutes".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnkit import Architecture, CnnkitError
from cnnkit.architectures.blocks import GlobalMax, Rate, Scale, Size
from cnnkit.architectures.mirrored import MirroredBatchNorm2d, MirroredConv2d, TwinMean

LOGIT_SCALE = 1 / 9  # arXiv:2404.00498, listing in the appendix
PATCH_SIZE = 2  # px: an RGB patch has 12 numbers, and each of its 12 directions becomes two filters, one per sign
EPSILON = 5e-4  # added to the variances, as in the paper's listing, so that directions with little variance are not amplified


class Whitening(nn.Module):
    """A fixed convolution of 2x2 patches whose outputs are uncorrelated, (N, C, H, W) to (N, 8 C, H - 1, W - 1).

    With `mirror`, mirroring a patch keeps or negates each direction, so that every output has a twin: `twins` (8 C,).
    """

    weight: Tensor

    def __init__(self, in_channels: int, *, mirror: bool = False) -> None:
        super().__init__()
        directions = in_channels * PATCH_SIZE**2
        self._spaces = _even_and_odd(directions) if mirror else (torch.eye(directions),)
        filters = torch.cat(self._spaces, dim=1).T
        self.register_buffer("weight", torch.cat([filters, -filters]).reshape(2 * directions, in_channels, PATCH_SIZE, PATCH_SIZE))
        order = torch.arange(2 * directions).view(2, 2, directions // 2)  # sign; even, odd; direction
        self.twins = torch.stack([order[:, 0], order.flip(0)[:, 1]], dim=1).flatten() if mirror else None

    def forward(self, images: Tensor) -> Tensor:
        """Whiten every patch; the edge of an image smaller than a patch is repeated."""
        if min(images.shape[2:]) < PATCH_SIZE:
            images = F.pad(images, (0, 1, 0, 1), mode="replicate")
        return F.conv2d(images, self.weight)

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Set the filters to the principal directions of the patches of `images` (N, C, H, W), each divided by its standard deviation."""
        patches = F.unfold(images.float(), PATCH_SIZE).transpose(1, 2).flatten(0, 1).double()
        covariance = patches.T @ patches / len(patches)
        found: list[Tensor] = []
        for space in self._spaces:  # even and odd patches are uncorrelated if half of the images are mirrored
            basis = space.to(covariance)
            values, vectors = torch.linalg.eigh(basis.T @ covariance @ basis)
            found.append((basis @ vectors / (values + EPSILON).sqrt()).T.flip(0))
        filters = torch.cat(found).to(self.weight.dtype).reshape(-1, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([filters, -filters]))


def _even_and_odd(directions: int) -> tuple[Tensor, Tensor]:
    """Return orthonormal bases, each (D, D / 2) for D directions, of the patches that mirroring keeps and of those that it negates."""
    left, right = torch.eye(directions).view(directions // PATCH_SIZE, PATCH_SIZE, directions).unbind(1)
    return ((left + right) / 2**0.5).T, ((left - right) / 2**0.5).T


class Halve(nn.Module):
    """A max pooling with stride 2, (N, C, H, W) to (N, C, H/2, W/2), rounded down; maps smaller than `window` do not change.

    With an odd width, a window of 3 pixels covers all columns, so that mirroring and pooling commute. All widths here are
    odd if the width of the images is a multiple of 8.
    """

    def __init__(self, window: int = 2) -> None:
        super().__init__()
        self._window = window

    def forward(self, maps: Tensor) -> Tensor:
        """Keep the largest pixel of every window."""
        return maps if min(maps.shape[2:]) < self._window else F.max_pool2d(maps, self._window, stride=2)


class FastCNN(nn.Sequential):
    """The network, with a first layer that is set from training images."""

    def start_from(self, images: Tensor) -> None:
        """Set the first layer to the whitening of the patches of `images` (N, C, H, W), normalised."""
        whitening = self[0]
        assert isinstance(whitening, Whitening)  # noqa: S101 (build puts it first)
        whitening.fit(images)


def build(
    num_classes: int, in_channels: int, *, width: Size = 64, middle: Size = 2, dropout: Rate = 0.0, mirror: bool = False
) -> nn.Module:
    """Return the network; its groups have `width`, `middle` * `width` and 4 * `width` filters, with `dropout` before the dense layer.

    In the paper, `middle` is 4 (64, 256 and 256 filters), which takes 1.8 times as long. With `mirror`, half of the filters
    are mirror images of the others, and `width` must be even.
    """
    if mirror and width % 2:
        raise CnnkitError(f"--set width={width}: must be even, as half of the filters mirror the others; or --set mirror=false")
    whitening = Whitening(in_channels, mirror=mirror)
    features = 4 * width
    return FastCNN(
        whitening,
        nn.GELU(),
        _group(2 * in_channels * PATCH_SIZE**2, width, mirror=mirror, twins=whitening.twins),
        _group(width, middle * width, mirror=mirror),
        _group(middle * width, features, mirror=mirror),
        nn.Sequential(GlobalMax(), TwinMean()) if mirror else GlobalMax(),
        nn.Dropout(dropout),
        nn.Linear(features // 2 if mirror else features, num_classes, bias=False),
        Scale(LOGIT_SCALE),
    )


def _group(inputs: int, outputs: int, *, mirror: bool, twins: Tensor | None = None) -> nn.Sequential:
    """Return two convolutions with a pooling between them, which makes the second one four times faster."""
    first, second = _convolution(inputs, outputs), _convolution(outputs, outputs)
    if not mirror:
        return nn.Sequential(first, Halve(), _norm(nn.BatchNorm2d(outputs)), nn.GELU(), second, _norm(nn.BatchNorm2d(outputs)), nn.GELU())
    norms = [_norm(MirroredBatchNorm2d(outputs // 2)) for _ in range(2)]
    return nn.Sequential(MirroredConv2d(first, twins), Halve(window=3), norms[0], nn.GELU(), MirroredConv2d(second), norms[1], nn.GELU())


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3x3 convolution that starts as the identity (arXiv:2404.00498, section 3.3, "dirac initialization")."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight[: min(inputs, outputs)])
    return layer


def _norm(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Return `norm` without a learned scale, and with statistics fast enough for a short training (the paper's listing)."""
    norm.momentum = 0.4
    norm.weight.requires_grad = False
    return norm


fast_cnn = Architecture(
    build=build,
    summary="airbench-like, for trainings of a few minutes",
    image_size=32,
    reference="arXiv:2404.00498",
)
