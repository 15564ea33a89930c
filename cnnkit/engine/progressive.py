"""Progressive resizing: small images first, while coarse shapes are being learned, and whole ones for the rest of a training.

After fast.ai's DAWNBench entry (https://www.fast.ai/posts/2018-08-10-fastai-diu-imagenet.html): a smaller image costs less in every
layer that slides over it, so the same time has room for more passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor
from torch.nn import functional

from cnnkit.config.settings import START_SHARE


def resized(batches: Iterable[tuple[Tensor, Tensor]], start_size: int, done: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield `batches` of (images (n, C, S, S) float32, labels), scaled down to `start_size` px while less than `START_SHARE` is `done`.

    `done` is the share of the training that lies behind, 0 to 1. A `start_size` of 0 leaves all images as they are.
    """
    small = start_size > 0 and done < START_SHARE
    for images, labels in batches:
        yield (_scaled(images, start_size) if small else images), labels


def _scaled(images: Tensor, side: int) -> Tensor:
    return functional.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
