"""What the engine asks of data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor


class BatchSource(Protocol):
    """What the loop asks of data: so many `steps` per epoch, and the batches of an epoch by its number."""

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        ...

    def epoch(self, number: int) -> Iterable[tuple[Tensor, Tensor]]:
        """Yield (images (n, C, H, W) float32, labels (n,) int64 or, of mixed images, (n, K) probabilities) on the device."""
        ...
