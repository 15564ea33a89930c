"""RandAugment (arXiv:1909.13719): a few of fourteen operations on every image, by torchvision, in few calls per batch.

A loop over images runs torchvision's RandAugment at a tenth of the speed of the affine transform: see docs/benchmarks/LOG.md,
"RandAugment image by image". The magnitude is the same for all images, so an image draws one of 23 cases: nine operations in two
directions, and five without a direction. All images of a batch with the same case go through one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cnnkit.model.preprocessing import PAD_LEVEL

MAX_OPERATIONS = 4  # the paper tries up to 3 on CIFAR and 4 on ImageNet
MAX_MAGNITUDE = 30  # as in section 3.1 of the paper and in torchvision; timm counts to 10

Operation = Callable[[Tensor], Tensor]


def rand_augment(images: Tensor, draws: Tensor, operations: int, magnitude: int) -> Tensor:
    """Apply N random operations, N = `operations`, one after the other to each of `images` (N, C, S, S), values 0..255; return uint8.

    `magnitude` is between 0 and `MAX_MAGNITUDE`. `draws` (N, at least `operations`) in [0, 1) choose the operations with equal
    probability. Pixels from outside an image are mid gray.
    """
    images = images.clone() if images.dtype == torch.uint8 else images.round().clamp(0, 255).to(torch.uint8)
    part = magnitude / MAX_MAGNITUDE
    directed, plain = list(_directed_operations(part, images.shape[-1])), list(_undirected_operations(part))
    cases = directed + plain
    for draw in draws.T[:operations]:
        # Each direction has one number. Each operation without a direction has two; the second range wraps around to the same cases.
        number = (draw * (len(directed) + 2 * len(plain))).long()
        case = torch.where(number < len(cases), number, number - len(plain))
        for index, operation in enumerate(cases):
            members = torch.nonzero(case == index).flatten()
            if len(members):
                images[members] = operation(images[members])
    return images


def _directed_operations(part: float, size: int) -> Iterator[Operation]:
    """Yield nine operations in both directions, with the ranges of torchvision: table 6 of AutoAugment, arXiv:1805.09501."""
    from torchvision.transforms.v2 import functional as vision

    shear = math.degrees(math.atan(0.3 * part))
    pixels = int(150 / 331 * part * size)  # 150 of the 331 pixels of the paper's images
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
    """Yield the five operations without a direction."""
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
