"""Random augmentation of training images: presets, their resolution from a configuration, and their application to a batch.

This file holds rotation, flip, zoom and shift. Colour, erasing, RandAugment and mixing have their own files. All run on the device
of the batch, and every image has its own random numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cnnkit.config.settings import AugmentConfig
from cnnkit.data.augment.colour import jitter
from cnnkit.data.augment.erasing import erase
from cnnkit.data.augment.extra import ExtraAugmentation, apply_extra, extra_numbers
from cnnkit.data.augment.rand_augment import MAX_OPERATIONS, rand_augment
from cnnkit.data.augment.randomness import uniform
from cnnkit.data.augment.sampling_grid import sampling_grid

# The columns of an image's random numbers. A new column goes to the end, so that the meaning of the others stays.
GEOMETRY_DRAWS = slice(0, 6)  # flip h, flip v, rotate, zoom, shift x, shift y
NUM_MIRROR_DRAWS = 2  # the first two columns: flip h, flip v
COLOUR_DRAWS = slice(6, 9)
ERASING_DRAWS = slice(9, 14)
MIXING_DRAWS = slice(14, 18)
OPERATION_DRAWS = slice(18, 18 + MAX_OPERATIONS)
NUM_DRAWS = OPERATION_DRAWS.stop
# Names of classes whose images change class when mirrored. A missed name puts mirrored images under the wrong label; a needless match
# only costs variety. So "right whale" matches, but "West Highland terrier" does not.
_MIRROR_SENSITIVE = re.compile(
    r"""^((digit|number|letter)[ _-]?)?(.|\d+)$          # a letter, digit or number
    | ^(zero|one|two|three|four|five|six|seven|eight|nine)$
    | ^(north|south)?[ _-]?(east|west)(bound|ward|wards)?$
    | (?<![a-z])(left|right)(bound|hand|handed|hander|most|ward|wards)?(?![a-z])
    | clockwise""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class AugmentationStrength:
    """The strength of each kind of augmentation; zero is off.

    `rotate` is in degrees, in both directions. `zoom` is a range of magnification, `shift` a share of the image size. `color` is the
    reach of the factors of brightness, contrast and saturation. `erase` is the share of images with an erased rectangle. `randaugment`
    is the number of operations and their magnitude. `mixup` and `cutmix` are the A of Beta(A, A).
    """

    rotate: float
    flip: str
    zoom: tuple[float, float]
    shift: float
    color: float = 0.0
    erase: float = 0.0
    randaugment: tuple[int, int] = (0, 0)
    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def affine(self) -> bool:
        """True if pixels must be interpolated; flips and shifts by whole pixels only move them."""
        return self.rotate > 0 or self.zoom != (1.0, 1.0)

    @property
    def moves(self) -> bool:
        """True if pixels move."""
        return self.affine or self.flip != "none" or self.shift > 0

    @property
    def mixes(self) -> bool:
        """True if images are mixed with others of their batch, and labels become probabilities."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def active(self) -> bool:
        """True if any augmentation is on."""
        return self.moves or self.mixes or self.color > 0 or self.erase > 0 or self.randaugment[0] > 0


# light is the usual augmentation of CIFAR training (arXiv:1512.03385): flip, shift by 4 of 32 pixels. default adds a small rotation
# and zoom, as in the case study. strong doubles them and adds timm's usual colour jitter (0.4) and DeiT's random erasing (0.25:
# arXiv:2012.12877, table 9).
PRESETS = {
    "none": AugmentationStrength(rotate=0, flip="none", zoom=(1.0, 1.0), shift=0),
    "light": AugmentationStrength(rotate=0, flip="h", zoom=(1.0, 1.0), shift=0.125),
    "default": AugmentationStrength(rotate=10, flip="h", zoom=(0.9, 1.1), shift=0.1),
    "strong": AugmentationStrength(rotate=20, flip="h", zoom=(0.75, 1.3), shift=0.15, color=0.4, erase=0.25),
}


def resolve_augmentation(config: AugmentConfig, classes: Sequence[str]) -> tuple[AugmentationStrength, str | None]:
    """Return the augmentation of `config`, and a note if the preset's flip was left out because of a class name.

    A mirrored 2 is no 2. If a class name is a digit, a letter or a direction, the preset's flip is left out; a flip of `config` stays.
    """
    preset = PRESETS[config.augment]
    flip, note = config.flip, None
    if flip is None:
        flip = preset.flip
        sensitive = [name for name in classes if is_mirror_sensitive(name)]
        if flip != "none" and sensitive:
            flip = "none"
            note = f"no mirroring: mirrored images of class {sensitive[0]!r} may no longer belong to it (--flip h mirrors anyway)"
    given = config.model_dump(exclude={"augment", "flip", "augment_with"}, exclude_none=True)
    return replace(preset, **given, flip=flip), note


def is_mirror_sensitive(name: str) -> bool:
    """Return True if mirrored images of a class of this name may no longer belong to it: ``7``, ``b``, ``turn_left``, ``TurnLeft``."""
    return _MIRROR_SENSITIVE.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) is not None


def draw_numbers(seed: int, epoch: int, keys: NDArray[np.int64], extra: Sequence[ExtraAugmentation] = ()) -> NDArray[np.float32]:
    """Return the random numbers (N, `NUM_DRAWS`) in [0, 1) with which `augment` varies the N samples `keys` in `epoch`.

    The numbers of the `extra` augmentations follow in further columns.

    The flips alternate, from a random start for each image: left-right every epoch, upside down every second epoch. So two
    consecutive epochs show both mirrorings of every image, where independent draws show half of the images only one way
    (arXiv:2404.00498, section 3.6). All other numbers are new in every epoch.
    """
    numbers = uniform(seed, epoch, keys, NUM_DRAWS)
    start = uniform(seed, 0, keys, NUM_MIRROR_DRAWS)
    turned = np.array([epoch % 2, epoch // 2 % 2], bool)
    numbers[:, :NUM_MIRROR_DRAWS] = np.where(turned, start - np.where(start < 0.5, np.float32(-0.5), np.float32(0.5)), start)  # noqa: PLR2004 (half)
    return np.concatenate([numbers, *extra_numbers(extra, seed, epoch, keys)], axis=1) if extra else numbers


def augment(images: Tensor, draws: Tensor, augmentation: AugmentationStrength, extra: Sequence[ExtraAugmentation] = ()) -> Tensor:
    """Vary `images` (N, C, S, S), values 0..255, by the numbers `draws` of `draw_numbers` in [0, 1), without mixing.

    The order is geometry, RandAugment, colour, the `extra` augmentations of other packages, erasing. Pixels from outside the image are its
    reflection. The result keeps the dtype if pixels only move or are erased, is uint8 after RandAugment, and else float32 with the same
    range of values.
    """
    if augmentation.moves:
        images = (_affine if augmentation.affine else _move)(images, draws[:, GEOMETRY_DRAWS], augmentation)
    if augmentation.randaugment[0]:
        images = rand_augment(images, draws[:, OPERATION_DRAWS], *augmentation.randaugment)
    if augmentation.color:
        images = jitter(images, draws[:, COLOUR_DRAWS], augmentation.color)
    if extra:
        images = apply_extra(images, draws[:, NUM_DRAWS:], extra)
    if augmentation.erase:
        images = erase(images, draws[:, ERASING_DRAWS], augmentation.erase)
    return images


def _signs(draws: Tensor, augmentation: AugmentationStrength) -> tuple[Tensor, Tensor]:
    """Return the signs (N,) along x and along y: -1 for a mirrored image, else 1."""
    ones = torch.ones_like(draws[:, 0])
    flip_x = torch.where(draws[:, 0] < 0.5, -ones, ones) if "h" in augmentation.flip else ones  # noqa: PLR2004 (a half)
    flip_y = torch.where(draws[:, 1] < 0.5, -ones, ones) if "v" in augmentation.flip else ones  # noqa: PLR2004
    return flip_x, flip_y


def _move(images: Tensor, draws: Tensor, augmentation: AugmentationStrength) -> Tensor:
    """Flip and shift by whole pixels: one gather, no interpolation."""
    count, channels, height, width = images.shape
    flip_x, flip_y = _signs(draws, augmentation)
    rows = _line(height, flip_y, draws[:, 5], augmentation.shift)
    columns = _line(width, flip_x, draws[:, 4], augmentation.shift)
    flat = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, height * width).expand(-1, channels, -1)
    return images.reshape(count, channels, height * width).gather(2, flat).view(count, channels, height, width)


def _line(size: int, sign: Tensor, draw: Tensor, shift: float) -> Tensor:
    """Return the source positions (N, size) of a line of pixels that is mirrored, shifted and reflected at its ends."""
    reach = int(shift * size)
    offset = (draw * (2 * reach + 1)).floor().clamp(max=2 * reach).long() - reach
    position = torch.arange(size, device=draw.device)
    position = torch.where(sign[:, None] < 0, size - 1 - position, position) + offset[:, None]
    position = position.abs()
    return size - 1 - (size - 1 - position).abs()


def _affine(images: Tensor, draws: Tensor, augmentation: AugmentationStrength) -> Tensor:
    """Flip, rotate, zoom and shift in one bilinear sampling."""
    flip_x, flip_y = _signs(draws, augmentation)
    angle = (2 * draws[:, 2] - 1) * math.radians(augmentation.rotate)
    low, high = augmentation.zoom
    magnify = low * torch.pow(torch.full_like(angle, high / low), draws[:, 3])  # half the size is as likely as twice the size
    cos, sin = torch.cos(angle) / magnify, torch.sin(angle) / magnify
    move_x, move_y = ((2 * draws[:, index] - 1) * 2 * augmentation.shift for index in (4, 5))
    theta = torch.stack(
        [torch.stack([cos * flip_x, -sin * flip_y, move_x], 1), torch.stack([sin * flip_x, cos * flip_y, move_y], 1)],
        1,
    )
    grid = sampling_grid(theta, *images.shape[2:])
    return functional.grid_sample(images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
