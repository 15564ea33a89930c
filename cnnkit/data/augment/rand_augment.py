"""RandAugment (arXiv:1909.13719): a few of fourteen operations on every image, as in torchvision, for whole batches.

A loop over images runs torchvision's RandAugment at a tenth of the speed of the affine transform: see docs/benchmarks/LOG.md,
"RandAugment image by image". The magnitude is the same for all images, so an image draws one of 23 cases: nine operations in two
directions, and five without a direction. The cases form six groups, and one call computes a group for many images: each image takes
its numbers from tables by its case.

A CPU computes each group for its own images alone. On a GPU the host would have to wait for their number. So a GPU computes every
group for all images, and each image keeps the result of its group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from cnnkit.data.augment.colour import LUMA_WEIGHTS, MAX_LEVEL
from cnnkit.data.augment.sampling_grid import sampling_grid
from cnnkit.model.preprocessing import PAD_LEVEL

MAX_OPERATIONS = 4  # the paper tries up to 3 on CIFAR and 4 on ImageNet
MAX_MAGNITUDE = 30  # as in section 3.1 of the paper and in torchvision; timm counts to 10
NUM_DIRECTED, NUM_UNDIRECTED = 18, 5  # cases

BLUR = ((1 / 13, 1 / 13, 1 / 13), (1 / 13, 5 / 13, 1 / 13), (1 / 13, 1 / 13, 1 / 13))  # of sharpness: Pillow's SMOOTH filter
Theta = tuple[tuple[float, float, float], tuple[float, float, float]]
IDENTITY: Theta = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


@dataclass(frozen=True)
class _Case:
    """An operation with a direction: its `group`, and the numbers that the group needs.

    `theta` maps positions of the result to positions of the image, both from -1 to 1. `factor` is that of brightness, saturation,
    contrast and sharpness, and `reference` the part of the blend that the factor 0 leaves. `mask` keeps bits of a level; levels from
    `threshold` are inverted.
    """

    group: str
    theta: Theta = IDENTITY
    factor: float = 1.0
    reference: str = "black"
    mask: int = 255
    threshold: float = math.inf


@dataclass(frozen=True, eq=False)
class _Tables:
    """The numbers of the 23 cases on a device, each tensor by case; `group` is an index into `GROUPS`, or -1 for the identity."""

    group: Tensor
    theta: Tensor
    factor: Tensor
    rest: Tensor
    is_gray: Tensor
    is_mean: Tensor
    mask: Tensor
    threshold: Tensor
    blur: Tensor

    def of(self, case: Tensor, name: str) -> Tensor:
        """Return the numbers `name` of each image (n, 1, 1, 1), by its case."""
        return getattr(self, name).index_select(0, case)[:, None, None, None]


def rand_augment(images: Tensor, draws: Tensor, operations: int, magnitude: int) -> Tensor:
    """Apply N random operations, N = `operations`, one after the other to each of `images` (N, C, S, S), values 0..255; return uint8.

    `magnitude` is between 0 and `MAX_MAGNITUDE`. `draws` (N, at least `operations`) in [0, 1) choose the operations with equal
    probability. Pixels from outside an image are mid gray. A pixel differs by at most one level from torchvision's.
    """
    images = images.clone() if images.dtype == torch.uint8 else images.round().clamp(0, 255).to(torch.uint8)
    tables = _tables(magnitude, images.shape[-1], images.device)
    change = _change_members if images.device.type == "cpu" else _change_all
    for draw in draws.T[:operations]:
        # Each direction has one number. Each operation without a direction has two; the second range wraps around to the same cases.
        number = (draw * (NUM_DIRECTED + 2 * NUM_UNDIRECTED)).long()
        case = torch.where(number < NUM_DIRECTED + NUM_UNDIRECTED, number, number - NUM_UNDIRECTED)
        images = change(images, case, tables)
    return images


def _change_members(images: Tensor, case: Tensor, tables: _Tables) -> Tensor:
    """Change every image, in place, by the group of its `case` (N,), which computes these images alone."""
    groups = tables.group.index_select(0, case)
    for index, operation in enumerate(GROUPS.values()):
        members = torch.nonzero(groups == index).flatten()
        if len(members):
            images[members] = operation(images[members], case[members], tables)
    return images


def _change_all(images: Tensor, case: Tensor, tables: _Tables) -> Tensor:
    """Do the work of `_change_members` without a shape that depends on the draws: the host need not wait for a GPU."""
    groups = tables.of(case, "group")
    for index, operation in enumerate(GROUPS.values()):
        images = torch.where(groups == index, operation(images, case, tables), images)
    return images


def _move(images: Tensor, case: Tensor, tables: _Tables) -> Tensor:
    """Shear, translate or rotate; the rounding at the border is that of torchvision."""
    inside = torch.ones_like(images[:, :1])
    grid = sampling_grid(tables.theta.index_select(0, case), *images.shape[2:])
    moved = functional.grid_sample(torch.cat((images, inside), 1).float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    moved, inside = moved[:, :-1], moved[:, -1:]
    return ((moved - PAD_LEVEL) * inside + PAD_LEVEL).round_().to(torch.uint8)


def _blend(images: Tensor, case: Tensor, tables: _Tables) -> Tensor:
    """Blend an image with black, with its gray version or with its mean gray: brightness, saturation, which gray images lack, contrast."""
    gray = _gray(images)
    mean = gray.mean((1, 2, 3), keepdim=True)
    reference = torch.where(tables.of(case, "is_gray"), gray, torch.where(tables.of(case, "is_mean"), mean, 0.0))
    blended = torch.addcmul(images * tables.of(case, "factor"), reference, tables.of(case, "rest")).clamp_(0, MAX_LEVEL).to(torch.uint8)
    return torch.where(tables.of(case, "is_gray"), images, blended) if images.shape[1] == 1 else blended


def _gray(images: Tensor) -> Tensor:
    """Return the luma (N, 1, S, S) in whole levels, float32."""
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = LUMA_WEIGHTS
    return (images[:, :1] * red).add_(images[:, 1:2], alpha=green).add_(images[:, 2:], alpha=blue).floor_()


def _sharpen(images: Tensor, case: Tensor, tables: _Tables) -> Tensor:
    """Blend an image with its blurred version; the pixels of the border stay, and so does an image without others."""
    if min(images.shape[2:]) < len(BLUR):
        return images
    sharp = images.float()
    inner = sharp[:, :, 1:-1, 1:-1]
    blurred = functional.conv2d(sharp, tables.blur.expand(images.shape[1], 1, 3, 3), groups=images.shape[1]).round_()
    sharp[:, :, 1:-1, 1:-1] = torch.addcmul(inner, blurred - inner, tables.of(case, "rest"))
    return sharp.clamp_(0, MAX_LEVEL).to(torch.uint8)


def _replace_levels(images: Tensor, case: Tensor, tables: _Tables) -> Tensor:
    """Keep the upper bits of every level (posterize), or invert the upper levels (solarize)."""
    kept = images & tables.of(case, "mask")
    return torch.where(kept >= tables.of(case, "threshold"), ~kept, kept)


def _autocontrast(images: Tensor, _case: Tensor, _tables: _Tables) -> Tensor:
    from torchvision.transforms.v2 import functional as vision

    return vision.autocontrast(images)


def _equalize(images: Tensor, _case: Tensor, _tables: _Tables) -> Tensor:
    from torchvision.transforms.v2 import functional as vision

    return vision.equalize(images)


Operation = Callable[[Tensor, Tensor, _Tables], Tensor]
GROUPS: dict[str, Operation] = {
    "move": _move,
    "blend": _blend,
    "sharpen": _sharpen,
    "levels": _replace_levels,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}


@lru_cache(maxsize=8)
def _tables(magnitude: int, size: int, device: torch.device) -> _Tables:
    """Return the numbers of all cases for images of `size` px; the copy to a GPU, which waits, is made once."""
    part = magnitude / MAX_MAGNITUDE
    cases = [*_directed_cases(part, size), *_undirected_cases(part)]
    names = list(GROUPS)

    def table(values: list[object], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype).to(device)

    return _Tables(
        group=table([names.index(case.group) if case.group else -1 for case in cases], torch.int64),
        theta=table([case.theta for case in cases], torch.float32),
        factor=table([case.factor for case in cases], torch.float32),
        rest=table([1.0 - case.factor for case in cases], torch.float32),
        is_gray=table([case.reference == "gray" for case in cases], torch.bool),
        is_mean=table([case.reference == "mean" for case in cases], torch.bool),
        mask=table([case.mask for case in cases], torch.uint8),
        threshold=table([case.threshold for case in cases], torch.float32),
        blur=table(list(BLUR), torch.float32),
    )


def _directed_cases(part: float, size: int) -> Iterator[_Case]:
    """Yield nine operations in both directions, with the ranges of torchvision: table 6 of AutoAugment, arXiv:1805.09501."""
    slope = 0.3 * part
    pixels = int(150 / 331 * part * size)  # 150 of the 331 pixels of the paper's images
    for sign in (1, -1):
        factor = 1 + sign * 0.9 * part
        angle = math.radians(30 * part) * sign
        cos, sin = math.cos(angle), math.sin(angle)
        yield _Case("move", ((1.0, sign * slope, sign * slope), (0.0, 1.0, 0.0)))  # the first row stays
        yield _Case("move", ((1.0, 0.0, 0.0), (sign * slope, 1.0, sign * slope)))
        yield _Case("move", ((1.0, 0.0, -sign * 2 * pixels / size), (0.0, 1.0, 0.0)))
        yield _Case("move", ((1.0, 0.0, 0.0), (0.0, 1.0, -sign * 2 * pixels / size)))
        yield _Case("move", ((cos, -sin, 0.0), (sin, cos, 0.0)))
        yield _Case("blend", factor=factor)
        yield _Case("blend", factor=factor, reference="gray")
        yield _Case("blend", factor=factor, reference="mean")
        yield _Case("sharpen", factor=factor)


def _undirected_cases(part: float) -> Iterator[_Case]:
    """Yield the five operations without a direction."""
    bits = round(8 - 4 * part)
    yield _Case("")
    yield _Case("levels", mask=256 - (1 << (8 - bits)))
    yield _Case("levels", threshold=255 * (1 - part))
    yield _Case("autocontrast")
    yield _Case("equalize")
