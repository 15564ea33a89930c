"""A ResNet-9, which trains fast on small images: convolutions of growing width with two residual pairs between them.

    images -> conv(w) -> conv(2w) - pool - residual(2w) -> conv(4w) - pool -> conv(8w) - pool - residual(8w) -> max -> Dense(K) * 0.125

The network is from David Page, "How to train your ResNet" (https://github.com/davidcpage/cifar10-fast), where it reaches 94 %
on CIFAR-10 in 24 epochs. The residual pairs are from arXiv:1512.03385.
"""

from __future__ import annotations

from torch import nn

from cnnkit import Architecture
from cnnkit.architectures.blocks import GlobalMax, Rate, Residual, Scale, Size, conv_norm_relu, halve, he_init

LOGIT_SCALE = 0.125  # Page's: without it the logits start with a spread of 6, as the maxima of 512 maps are large


def build(num_classes: int, in_channels: int, *, width: Size = 64, dropout: Rate = 0.0) -> nn.Module:
    """Return the network, with `width` filters in its first layer and `dropout` before the dense layer."""
    network = nn.Sequential(
        conv_norm_relu(in_channels, width),
        conv_norm_relu(width, 2 * width),
        halve(),
        Residual(2 * width),
        conv_norm_relu(2 * width, 4 * width),
        halve(),
        conv_norm_relu(4 * width, 8 * width),
        halve(),
        Residual(8 * width),
        GlobalMax(),
        nn.Dropout(dropout),
        nn.Linear(8 * width, num_classes),
        Scale(LOGIT_SCALE),
    )
    he_init(network)
    return network


residual_cnn = Architecture(
    build=build,
    summary="ResNet-9 with BatchNorm, fast on small images",
    image_size=64,
    reference="https://github.com/davidcpage/cifar10-fast, arXiv:1512.03385",
)
