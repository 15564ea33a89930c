"""RandAugment (arXiv:1909.13719): a few out of fourteen operations on every image, by torchvision, in few calls a batch.

A loop over images runs torchvision's RandAugment at a tenth of the affine's rate: see docs/benchmarks/LOG.md, "RandAugment image
by image". But as the magnitude is the same for all, what an image may draw is one of 23 cases: nine operations
in two directions and five that have none. The images of a batch that drew the same case go through one call together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cnnkit.model.preprocessing import PAD_LEVEL

MAX_OPERATIONS = 4  # the paper tries up to 3 on CIFAR and 4 on ImageNet
MAX_MAGNITUDE = 30  # the strongest magnitude: section 3.1 of the paper, and torchvision (timm counts to 10)

Operation = Callable[[Tensor], Tensor]


def rand_augment(images: Tensor, draws: Tensor, operations: int, magnitude: int) -> Tensor:
    """Apply to each of `images` (N, C, S, S), values 0..255, so many `operations` one after the other; returns uint8.

    `magnitude` counts from 0 to `MAX_MAGNITUDE`. `draws` (N, `operations` or more) in [0, 1) choose which, all equally likely.
    What comes from outside an image is mid gray.
    """
    images = images.clone() if images.dtype == torch.uint8 else images.round().clamp(0, 255).to(torch.uint8)
    part = magnitude / MAX_MAGNITUDE
    directed, plain = list(_directed_operations(part, images.shape[-1])), list(_undirected_operations(part))
    cases = directed + plain
    for draw in draws.T[:operations]:
        # A number for each direction, and two for each of those without, which therefore wrap around.
        number = (draw * (len(directed) + 2 * len(plain))).long()
        case = torch.where(number < len(cases), number, number - len(plain))
        for index, operation in enumerate(cases):
            members = torch.nonzero(case == index).flatten()
            if len(members):
                images[members] = operation(images[members])
    return images


def _directed_operations(part: float, size: int) -> Iterator[Operation]:
    """Nine operations each in both directions; ranges as in torchvision: table 6 of AutoAugment, arXiv:1805.09501."""
    from torchvision.transforms.v2 import functional as vision

    shear = math.degrees(math.atan(0.3 * part))
    pixels = int(150 / 331 * part * size)  # 150 of the 331 pixels that images had there
    for sign in (1, -1):
        factor = 1 + sign * 0.9 * part
        yield _affine(shear=(sign * shear, 0.0), center=[0, 0])
        yield _affine(shear=(0.0, sign * shear), center=[0, 0])
        yield _affine(translate=(sign * pixels, 0))
        yield _affine(translate=(0, sign * pixels))
        yield _affine(angle=-sign * 30 * part)
        yield lambda images, factor=factor: vision.adjust_brightness(images, factor)
        yield lambda images, factor=factor: vision.adjust_saturation(images, factor)
        yield lambda images, factor=factor: vision.adjust_contrast(images, factor)
        yield lambda images, factor=factor: vision.adjust_sharpness(images, factor)


def _undirected_operations(part: float) -> Iterator[Operation]:
    """The five operations without a direction."""
    from torchvision.transforms.v2 import functional as vision

    yield lambda images: images
    yield lambda images: vision.posterize(images, round(8 - 4 * part))
    yield lambda images: vision.solarize(images, 255 * (1 - part))
    yield vision.autocontrast
    yield vision.equalize


def _affine(
    *, angle: float = 0.0, translate: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0.0, 0.0), center: list[float] | None = None
) -> Operation:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as vision

    return lambda images: vision.affine(
        images, angle, list(translate), 1.0, list(shear), interpolation=InterpolationMode.BILINEAR, fill=[PAD_LEVEL], center=center
    )
