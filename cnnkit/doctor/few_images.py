"""The advice to start from ImageNet's weights, for a training from scratch with few images of each class."""

from __future__ import annotations

from dataclasses import dataclass

from cnnkit.errors import shell_word
from cnnkit.registry import ARCHITECTURES, find

# Train images per class; a chosen limit, not a measured one. Pretrained weights help most with few images.
ENOUGH_IMAGES = 500
MAX_SMALL_SIZE = 64  # px: ImageNet's networks reduce images by 32, so smaller images leave a map of at most 2 x 2


@dataclass(frozen=True)
class PretrainedStart:
    """An architecture with published weights, the entry point that provides it, and the size of the download in words."""

    arch: str
    entry: str
    download: str


# The first whose entry point is installed is recommended.
STARTS = (
    PretrainedStart("lite/0", "lite", "nothing, because the weights are installed"),
    PretrainedStart("timm/resnet18", "timm", "47 MB once"),  # 11.7 million parameters of 4 bytes
)


def few_images_note(data: str, *, images: int, classes: int, image_size: int) -> str:
    """Return a note with the command that trains better; an empty text if `images` in train are enough for `classes`.

    `image_size` is the side of the network's input in pixels. ImageNet's weights do not suit small images, so these get no note.
    """
    per_class = images / classes
    if per_class >= ENOUGH_IMAGES or image_size <= MAX_SMALL_SIZE:
        return ""
    installed = find(ARCHITECTURES)
    start = next((each for each in STARTS if each.entry in installed), None)
    if start is None:
        return ""
    return (
        f"train has {per_class:,.0f} images per class, and under {ENOUGH_IMAGES} a network learns more from ImageNet's weights than from "
        f"scratch; this command downloads {start.download}: {command_of(start, data)}"
    )


def command_of(start: PretrainedStart, data: str) -> str:
    """Return the command that trains on `data` from the weights of `start`."""
    return f"cnnkit train --data {shell_word(data)} --arch {start.arch} --weights pretrained"
