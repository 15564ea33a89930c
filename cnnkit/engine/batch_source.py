"""The interface between the engine and the data: batches of images and labels, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor


class BatchSource(Protocol):
    """The batches of every epoch."""

    @property
    def steps(self) -> int:
        """The number of batches per epoch."""
        ...

    def epoch(self, number: int, first: int = 0) -> Iterable[tuple[Tensor, Tensor]]:
        """Yield the batches of epoch `number` from the index `first`, on the device.

        Images are (n, C, H, W) float32. Labels are (n,) int64, or (n, K) probabilities for mixed images.
        """
        ...
