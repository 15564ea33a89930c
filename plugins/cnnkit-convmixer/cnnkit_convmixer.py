"""ConvMixer (arXiv:2201.09792) for cnnkit: patches, then depthwise and pointwise convolutions in turn."""

from __future__ import annotations

from torch import Tensor, nn

from cnnkit import Architecture


class Residual(nn.Module):
    """The sum of the input and the output of `body`, (N, C, H, W) to the same shape."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, maps: Tensor) -> Tensor:
        """Return ``maps + body(maps)``."""
        return maps + self.body(maps)


def build(
    num_classes: int,
    in_channels: int,
    *,
    width: int = 256,
    depth: int = 8,
    kernel: int = 5,
    patch: int = 2,
) -> nn.Module:
    """Return a network that maps images (N, C, H, W) to logits (N, K); the keywords are the options of ``--set``.

    Every layer has `width` channels. A patch of `patch` pixels becomes one cell, and `depth` blocks mix the cells with depthwise filters
    of `kernel` cells. The defaults are the ConvMixer-256/8 of the paper's CIFAR-10 experiments, with kernels of 5 and patches of 2 pixels.
    """

    def activated(convolution: nn.Module) -> nn.Sequential:
        return nn.Sequential(convolution, nn.GELU(), nn.BatchNorm2d(width))

    blocks = [
        nn.Sequential(
            Residual(activated(nn.Conv2d(width, width, kernel, groups=width, padding="same"))),
            activated(nn.Conv2d(width, width, 1)),
        )
        for _ in range(depth)
    ]
    return nn.Sequential(
        activated(nn.Conv2d(in_channels, width, patch, stride=patch)),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, num_classes),
    )


convmixer = Architecture(
    build=build,
    summary="ConvMixer-256/8: patches mixed by depthwise and pointwise convolutions",
    image_size=64,
    reference="arXiv:2201.09792",
)
