"""Fixed images and batches for the tests of the engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

K, SIZE = 4, 8  # classes, pixels


@dataclass
class Fixed:
    """The same images in the same order in every epoch, in batches of the given sizes."""

    images: Tensor
    labels: Tensor
    sizes: Sequence[int]

    @property
    def steps(self) -> int:
        return len(self.sizes)

    def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        del number
        yield from [*zip(self.images.split(list(self.sizes)), self.labels.split(list(self.sizes)), strict=True)][first:]

    def batched(self, *sizes: int) -> Fixed:
        return Fixed(self.images, self.labels, sizes)


@pytest.fixture
def fixed() -> Fixed:
    """Sixteen images of noise, four of each class, in four batches."""
    images = torch.randn((16, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    return Fixed(images, torch.arange(16) % K, (4, 4, 4, 4))
