"""VGG-like networks with batch normalisation: stages of 3x3 convolutions, each stage half the size and up to twice the width.

`deep-cnn-14` has the 13 convolutions of VGG-16 (arXiv:1409.1556, table 1, column D), `deep-cnn-8` has seven. With the dense
layer, they have 14 and 8 layers with weights. They differ from the paper in two ways. Batch normalisation is added
(arXiv:1502.03167). Global average pooling (arXiv:1312.4400, section 3.2) replaces the two dense layers of 4,096. So the
networks accept any image size and have a tenth of the weights.
"""

from __future__ import annotations

from torch import nn

from cnnkit import Architecture
from cnnkit.architectures.blocks import Rate, Size, conv_norm_relu, halve, he_init

DEPTHS_8 = (1, 2, 2, 2)
DEPTHS_14 = (2, 2, 3, 3, 3)  # convolutions in each stage of VGG-16
MAX_WIDTH_FACTOR = 8  # on the first width: VGG's stages double it from 64 to 512


def build_8(num_classes: int, in_channels: int, *, width: Size = 32, dropout: Rate = 0.2) -> nn.Module:
    """Return seven convolutions in four stages, `width` filters in the first (VGG has 64), with `dropout` before the dense layer."""
    return _network(DEPTHS_8, num_classes, in_channels, width, dropout)


def build_14(num_classes: int, in_channels: int, *, width: Size = 32, dropout: Rate = 0.2) -> nn.Module:
    """Return thirteen convolutions in five stages, `width` filters in the first (VGG has 64), with `dropout` before the dense layer."""
    return _network(DEPTHS_14, num_classes, in_channels, width, dropout)


def _network(depths: tuple[int, ...], num_classes: int, in_channels: int, width: int, dropout: float) -> nn.Module:
    layers: list[nn.Module] = []
    channels = in_channels
    for stage, depth in enumerate(depths):
        if stage:
            layers.append(halve())
        outputs = width * min(2**stage, MAX_WIDTH_FACTOR)
        for _ in range(depth):
            layers.append(conv_norm_relu(channels, outputs))
            channels = outputs
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, num_classes))
    he_init(network)
    return network


deep_cnn_8 = Architecture(
    build=build_8,
    summary="VGG-like, 8 layers, BatchNorm, average pooling",
    image_size=128,
    reference="arXiv:1409.1556, arXiv:1502.03167",
)
deep_cnn_14 = Architecture(
    build=build_14,
    summary="VGG-like, 14 layers, BatchNorm, average pooling",
    image_size=128,
    reference="arXiv:1409.1556, arXiv:1502.03167",
)
