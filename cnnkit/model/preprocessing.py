"""The description of the path from a decoded image to model input, read and written without torch or numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from cnnkit.architecture import Interpolation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PAD_LEVEL = 114.0  # mid gray of letterboxing, as YOLOX and Ultralytics pad


class Preprocessing(BaseModel):
    """How a decoded RGB image becomes model input; written into every model file.

    `image_size` in pixels; `crop` is the share of the short side kept by ``resize_mode="crop"``; `mean` and `std` are
    per channel on the [0, 1] scale.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(ge=1)
    channels: Literal[1, 3] = 3
    resize_mode: Literal["crop", "pad", "squash"] = "crop"
    interpolation: Interpolation = "bilinear"
    crop: float = Field(default=1.0, gt=0, le=1)
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def window(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Return what the model sees of an image of that size: top, left, bottom and right, in its pixels."""
        if self.resize_mode != "crop":
            return 0.0, 0.0, float(height), float(width)
        side = min(height, width) * self.crop
        return (height - side) / 2, (width - side) / 2, (height + side) / 2, (width + side) / 2


def group_by_shape(images: Sequence[NDArray[np.uint8]]) -> list[list[int]]:
    """Return the indices of the images of each shape: one call over a group costs less than a call for each image."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(image.shape, []).append(index)
    return list(groups.values())
