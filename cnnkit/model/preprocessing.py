"""The settings of the preprocessing, read and written without torch or numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cnnkit.architecture import Interpolation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_IMAGE_SIZE = 4096  # px: a batch of canvases has at most 2**24 pixels, which is one canvas of this size
MIN_CROP = 0.05  # of the short edge: a smaller share would enlarge the image more than twentyfold
Level = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]  # on the [0, 1] scale; some weights count in 0-255
PAD_LEVEL = 114.0  # the gray of letterboxing in YOLOX and Ultralytics
# The least shorter side in px of a JPEG decoded at a fraction of its size, and the least number of its pixels per pixel of the network's
# input. A photo of 12 megapixels is then decoded at 375 x 500 px for networks up to 256 px: see docs/benchmarks/LOG.md, "Draft decoding".
DRAFT_SIDE, DRAFT_MARGIN = 360, 1.4
DRAFT_SCALES = (8, 4, 2, 1)  # divisors of height and width that libjpeg offers and Pillow's `Image.draft` uses


class Preprocessing(BaseModel):
    """The settings that turn a decoded RGB image into the input of a network; every model file holds them.

    `image_size` is in pixels. `crop` is the share of the short edge that ``resize_mode="crop"`` keeps. `mean` and `std`
    are per channel, on the [0, 1] scale. `draft_side` is the least shorter side in px to which a JPEG is decoded (`draft_scale`); None
    decodes it whole, as in the model files that lack the field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(ge=1, le=MAX_IMAGE_SIZE)
    channels: Literal[1, 3] = 3
    resize_mode: Literal["crop", "pad", "squash"] = "crop"
    interpolation: Interpolation = "bilinear"
    crop: float = Field(default=1.0, ge=MIN_CROP, le=1)
    mean: tuple[Level, ...]
    std: tuple[Annotated[Level, Field(gt=0)], ...]
    draft_side: int | None = Field(default=None, ge=1)

    def check_channels(self) -> None:
        """Raise `ValueError` unless mean and std have one number, or one for each channel."""
        if len(self.mean) != len(self.std) or len(self.mean) not in {1, self.channels}:
            raise ValueError(f"mean and std must have one number, or one for each of the {self.channels} channels")

    def window(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Return the window of an image of that size that the model sees: top, left, bottom and right, in pixels."""
        if self.resize_mode != "crop":
            return 0.0, 0.0, float(height), float(width)
        length = min(height, width) * self.crop
        return (height - length) / 2, (width - length) / 2, (height + length) / 2, (width + length) / 2


def draft_side_for(image_size: int, crop: float) -> int:
    """Return the `draft_side` of a new model whose canvas has `image_size` px and keeps the share `crop` of the short edge."""
    return max(DRAFT_SIDE, math.ceil(DRAFT_MARGIN * image_size / crop))


def draft_scale(height: int, width: int, draft_side: int | None) -> int:
    """Return the largest of `DRAFT_SCALES` that leaves at least `draft_side` px of the shorter side of a JPEG, or 1.

    libjpeg then decodes only 1/scale of height and width, rounded up, at a fraction of the cost.
    """
    return 1 if draft_side is None else next((scale for scale in DRAFT_SCALES if min(height, width) >= scale * draft_side), 1)


def group_by_shape(images: Sequence[NDArray[np.uint8]]) -> list[list[int]]:
    """Return the indices of the images of each shape: one call per group is faster than one call per image."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(image.shape, []).append(index)
    return list(groups.values())
