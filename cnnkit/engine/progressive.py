"""Progressive resizing: small images at the start of a training, images of full size for the rest.

The idea is from fast.ai's DAWNBench entry (https://www.fast.ai/posts/2018-08-10-fastai-diu-imagenet.html). Small images
show the coarse shapes that a network learns first. They are faster, so the same time has room for more epochs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor
from torch.nn import functional

from cnnkit.config.settings import START_SHARE


def resize(batches: Iterable[tuple[Tensor, Tensor]], start_size: int, done: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield `batches` of images (n, C, S, S) float32 and labels, the images scaled down to `start_size` px at the start.

    `done` is the share of the training that is done, 0 to 1; the start ends at `START_SHARE`. A `start_size` of 0 leaves
    all images as they are.
    """
    is_start = start_size > 0 and done < START_SHARE
    for images, labels in batches:
        yield (_scale(images, start_size) if is_start else images), labels


def _scale(images: Tensor, size: int) -> Tensor:
    return functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
