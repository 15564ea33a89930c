"""The size of a network: its parameters, and its multiply-adds for one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from cnnkit.architecture import Architecture
from cnnkit.registry import Entry, fence


@dataclass(frozen=True)
class Size:
    """The number of `parameters`, trainable or fixed, and of `macs` (multiply-adds) for one RGB image of `image_size` pixels.

    `macs` counts convolutions, matrix products and attention, as papers do, but not additions, norms and activations.
    """

    num_classes: int
    image_size: int
    parameters: int
    macs: int


def measure(architecture: Architecture, entry: Entry, options: Mapping[str, bool | int | float | str], num_classes: int = 10) -> Size:
    """Build the `architecture` of `entry` with `options` for RGB images, run one image through it on the CPU, and return its size.

    The option ``image_size`` sets the size of the image, else the architecture does. Raises `PluginError` if the network cannot be built
    or does not accept the image.
    """
    image_size = int(options.get("image_size") or architecture.image_size)
    network = architecture.build(num_classes, 3, **options).eval()
    failing = f"does not accept an RGB image of {image_size} px"
    with fence(entry, failing), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, image_size, image_size))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Size(num_classes, image_size, parameters, counter.get_total_flops() // 2)
