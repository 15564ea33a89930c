"""How training images are varied at random: presets, what a configuration asks for, and doing it to a whole batch.

Here are rotation, flip, zoom and shift; colour, erasing, RandAugment and mixing have files of their own. All run on whatever
device the batch is on, and every image has its own random numbers.
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
from cnnkit.data.augment.rand_augment import MAX_OPERATIONS, rand_augment
from cnnkit.data.augment.randomness import uniform

# The columns of an image's random numbers. A column added at the end leaves what earlier ones do as it was.
GEOMETRY_DRAWS = slice(0, 6)  # flip h, flip v, rotate, zoom, shift x, shift y
NUM_MIRROR_DRAWS = 2  # columns, the first ones
COLOUR_DRAWS = slice(6, 9)
ERASING_DRAWS = slice(9, 14)
MIXING_DRAWS = slice(14, 18)
OPERATION_DRAWS = slice(18, 18 + MAX_OPERATIONS)
NUM_DRAWS = OPERATION_DRAWS.stop
# Names whose images change class when mirrored. Missing one costs more than one too many: mirrored images under the
# wrong label, against a share of the variety. So "right whale" is taken for a side, but "West Highland terrier" is not.
_MIRROR_SENSITIVE = re.compile(
    r"""^((digit|number|letter)[ _-]?)?(.|\d+)$          # a letter, digit or number
    | ^(zero|one|two|three|four|five|six|seven|eight|nine)$
    | ^(north|south)?[ _-]?(east|west)(bound|ward|wards)?$
    | (?<![a-z])(left|right)(bound|hand|handed|hander|most|ward|wards)?(?![a-z])
    | clockwise""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Augmentation:
    """How far images are varied.

    `rotate` in degrees either way, `zoom` a range of magnification, `shift` a share of the side, `color` the reach of the
    factors of brightness, contrast and saturation, `erase` the share of images with a rectangle erased, `randaugment` the
    number of operations and their magnitude; `mixup` and `cutmix` the A of Beta(A, A). Zero is off.
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
        """Whether pixels must be interpolated; flips and whole-pixel shifts only move them."""
        return self.rotate > 0 or self.zoom != (1.0, 1.0)

    @property
    def moves(self) -> bool:
        """Whether pixels change place."""
        return self.affine or self.flip != "none" or self.shift > 0

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with others of their batch, and labels become probabilities."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def active(self) -> bool:
        """Whether anything is varied at all."""
        return self.moves or self.mixes or self.color > 0 or self.erase > 0 or self.randaugment[0] > 0


# light: what CIFAR training has used since arXiv:1512.03385 (flip, shift by 4 of 32 pixels). default adds a
# small rotation and zoom, the case study's third kind of variation; strong doubles them and adds timm's usual colour
# jitter (0.4) and DeiT's random erasing (0.25: arXiv:2012.12877, table 9).
PRESETS = {
    "none": Augmentation(rotate=0, flip="none", zoom=(1.0, 1.0), shift=0),
    "light": Augmentation(rotate=0, flip="h", zoom=(1.0, 1.0), shift=0.125),
    "default": Augmentation(rotate=10, flip="h", zoom=(0.9, 1.1), shift=0.1),
    "strong": Augmentation(rotate=20, flip="h", zoom=(0.75, 1.3), shift=0.15, color=0.4, erase=0.25),
}


def resolve_augmentation(config: AugmentConfig, classes: Sequence[str]) -> tuple[Augmentation, str | None]:
    """Return the augmentation that `config` asks for, and a sentence if the flip was left out for the classes' sake.

    A mirrored 2 is no 2: unless a flip is asked for, none is done when a class name is a digit, a letter or a side.
    """
    preset = PRESETS[config.augment]
    flip, note = config.flip, None
    if flip is None:
        flip = preset.flip
        sided = [name for name in classes if is_mirror_sensitive(name)]
        if flip != "none" and sided:
            flip = "none"
            note = f"no mirroring: class {sided[0]!r} looks like one that a mirror would change (--flip h to mirror all the same)"
    given = config.model_dump(exclude={"augment", "flip"}, exclude_none=True)
    return replace(preset, **given, flip=flip), note


def is_mirror_sensitive(name: str) -> bool:
    """Return whether a class of this name looks like one that a mirror would change: ``7``, ``b``, ``turn_left``, ``TurnLeft``."""
    return _MIRROR_SENSITIVE.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) is not None


def draw_numbers(seed: int, epoch: int, keys: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the random numbers (N, NUM_DRAWS) in [0, 1) by which `augment` varies the N samples `keys` in `epoch`.

    All are drawn anew in every epoch but those of the mirrors, which alternate: left-right an image is one way in one epoch and the
    other way in the next, upside down it changes every second epoch, each from a start drawn for it. So two epochs on end show
    both mirrorings of every image, where a coin tossed twice shows half of them one way only (arXiv:2404.00498, section 3.6).
    """
    numbers = uniform(seed, epoch, keys, NUM_DRAWS)
    start = uniform(seed, 0, keys, NUM_MIRROR_DRAWS)
    turned = np.array([epoch % 2, epoch // 2 % 2], bool)
    numbers[:, :NUM_MIRROR_DRAWS] = np.where(turned, start - np.where(start < 0.5, np.float32(-0.5), np.float32(0.5)), start)  # noqa: PLR2004 (half)
    return numbers


def augment(images: Tensor, draws: Tensor, augmentation: Augmentation) -> Tensor:
    """Vary `images` (N, C, S, S), values 0..255, as the numbers `draws` (N, NUM_DRAWS) in [0, 1) say: all but the mixing.

    An image's place, then RandAugment's operations, then its colour, then erasing. Returns the dtype it was given when
    pixels only move or are erased, uint8 after RandAugment, else float32 with the same range of values. What comes from
    outside the image is its reflection.
    """
    if augmentation.moves:
        images = (_affine if augmentation.affine else _move)(images, draws[:, GEOMETRY_DRAWS], augmentation)
    if augmentation.randaugment[0]:
        images = rand_augment(images, draws[:, OPERATION_DRAWS], *augmentation.randaugment)
    if augmentation.color:
        images = jitter(images, draws[:, COLOUR_DRAWS], augmentation.color)
    if augmentation.erase:
        images = erase(images, draws[:, ERASING_DRAWS], augmentation.erase)
    return images


def _signs(draws: Tensor, augmentation: Augmentation) -> tuple[Tensor, Tensor]:
    """-1 where an image is mirrored along x and along y, else 1."""
    ones = torch.ones_like(draws[:, 0])
    flip_x = torch.where(draws[:, 0] < 0.5, -ones, ones) if "h" in augmentation.flip else ones  # noqa: PLR2004 (a half)
    flip_y = torch.where(draws[:, 1] < 0.5, -ones, ones) if "v" in augmentation.flip else ones  # noqa: PLR2004
    return flip_x, flip_y


def _move(images: Tensor, draws: Tensor, augmentation: Augmentation) -> Tensor:
    """Flip and shift by whole pixels: one gather, no interpolation."""
    count, channels, height, width = images.shape
    flip_x, flip_y = _signs(draws, augmentation)
    rows = _line(height, flip_y, draws[:, 5], augmentation.shift)
    columns = _line(width, flip_x, draws[:, 4], augmentation.shift)
    flat = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, height * width).expand(-1, channels, -1)
    return images.reshape(count, channels, height * width).gather(2, flat).view(count, channels, height, width)


def _line(size: int, sign: Tensor, draw: Tensor, shift: float) -> Tensor:
    """Source positions (N, size) of a line of pixels that is mirrored, shifted and reflected at its ends."""
    reach = int(shift * size)
    offset = (draw * (2 * reach + 1)).floor().clamp(max=2 * reach).long() - reach
    place = torch.arange(size, device=draw.device)
    place = torch.where(sign[:, None] < 0, size - 1 - place, place) + offset[:, None]
    place = place.abs()
    return size - 1 - (size - 1 - place).abs()


def _affine(images: Tensor, draws: Tensor, augmentation: Augmentation) -> Tensor:
    """All four at once: one bilinear sampling."""
    flip_x, flip_y = _signs(draws, augmentation)
    angle = (2 * draws[:, 2] - 1) * math.radians(augmentation.rotate)
    low, high = augmentation.zoom
    magnify = low * torch.pow(torch.full_like(angle, high / low), draws[:, 3])  # as likely half as twice the size
    cos, sin = torch.cos(angle) / magnify, torch.sin(angle) / magnify
    move_x, move_y = ((2 * draws[:, index] - 1) * 2 * augmentation.shift for index in (4, 5))
    theta = torch.stack(
        [torch.stack([cos * flip_x, -sin * flip_y, move_x], 1), torch.stack([sin * flip_x, cos * flip_y, move_y], 1)],
        1,
    )
    grid = _grid(theta, *images.shape[2:])
    return functional.grid_sample(images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _grid(theta: Tensor, height: int, width: int) -> Tensor:
    """Return what `torch.nn.functional.affine_grid` would, (N, H, W, 2), without its matrix product of a point at a time.

    What a row adds and what a column adds are summed, x and y each in a plane of its own: see docs/benchmarks/LOG.md, "Grid of rotation
    and zoom".
    """
    rows = _centres(height, theta) * theta[:, :, 1, None] + theta[:, :, 2, None]
    columns = _centres(width, theta) * theta[:, :, 0, None]
    return (rows[:, :, :, None] + columns[:, :, None, :]).permute(0, 2, 3, 1)


def _centres(size: int, like: Tensor) -> Tensor:
    """Where the centres of `size` pixels (size,) lie on a line from -1 to 1."""
    return (2 * torch.arange(size, dtype=like.dtype, device=like.device) + 1) / size - 1
