"""The case study's network: convolution blocks, one dense layer, dropout.

    images (N, C, H, W)
      -> `blocks` times Conv3x3(same) - ReLU - MaxPool2, with width, 2 * width, 4 * width, ... filters
      -> average over a 4x4 grid -> Flatten -> Dense(dense) - ReLU - Dropout(dropout) -> Dense(K)
    logits (N, K)

With the grid, one recipe suits images of any size, because the dense layer does not grow with the image. At 128 pixels a
plain Flatten would have 32,768 values instead of 2,048. At 32 pixels, three poolings leave 4x4 anyway.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from annotated_types import Interval
from torch import nn

from cnnkit import Architecture
from cnnkit.architectures.blocks import AverageGrid, Rate, Size, glorot_init, halve

GRID_SIZE = 4  # as many cells per row as an image of 32 pixels has after three poolings
MAX_BLOCKS = 8  # they reduce 256 px to one, and double 32 filters to 4,096


def build(
    num_classes: int,
    in_channels: int,
    *,
    width: Size = 32,
    blocks: Annotated[int, Interval(ge=1, le=MAX_BLOCKS)] = 3,
    dense: Size = 128,
    dropout: Rate = 0.5,
) -> nn.Module:
    """Return the network; the first of `blocks` blocks has `width` filters, and each later block doubles them.

    The dense layer has `dense` units, with `dropout` after it.
    """
    widths = [in_channels, *(width * 2**block for block in range(blocks))]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding="same"), nn.ReLU(inplace=True), halve()]
    head = [nn.Linear(widths[-1] * GRID_SIZE**2, dense), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(dense, num_classes)]
    network = nn.Sequential(*layers, AverageGrid(GRID_SIZE), nn.Flatten(), *head)
    glorot_init(network)
    return network


custom_cnn = Architecture(
    build=build,
    summary="case study: Conv-ReLU-MaxPool blocks, dense layer",
    image_size=128,
    reference="LeCun et al. 1998, Gradient-based learning applied to document recognition, section II; dropout: JMLR 15:1929",
)
