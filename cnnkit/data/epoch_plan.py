"""The plan of an epoch: its samples in order, with their random numbers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnkit.data.augment.mixing import Mixture
from cnnkit.data.staging import to_device


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """N samples of an epoch: `rows` (N,) of the store, `labels` (N,) int64, and the random numbers of their augmentation.

    `draws` (N, D) float32 are those of `cnnkit.data.augment.augment.draw_numbers`, None without an augmentation. `mixture` is None
    unless images are mixed.
    """

    rows: NDArray[np.int64]
    labels: Tensor
    draws: Tensor | None
    mixture: Mixture | None

    def to(self, device: torch.device) -> EpochPlan:
        """Return the plan with its tensors on `device`."""
        draws = None if self.draws is None else to_device(self.draws, device)
        return EpochPlan(self.rows, to_device(self.labels, device), draws, None if self.mixture is None else self.mixture.to(device))

    def part(self, start: int, stop: int) -> EpochPlan:
        """Return the plan of the samples `start` to `stop`."""
        draws = None if self.draws is None else self.draws[start:stop]
        mixture = None if self.mixture is None else self.mixture.part(start, stop)
        return EpochPlan(self.rows[start:stop], self.labels[start:stop], draws, mixture)


class PlansAhead:
    """The plans of whole epochs; a thread makes the plan of the next epoch while the GPU works on an epoch.

    `make(number)` returns the plan of an epoch, whatever was asked before.
    """

    def __init__(self, make: Callable[[int], EpochPlan]) -> None:
        self._make = make
        self._thread = ThreadPoolExecutor(1)
        self._coming: tuple[int, Future[EpochPlan]] | None = None

    def take(self, number: int) -> EpochPlan:
        """Return the plan of epoch `number`, and begin with that of the next."""
        coming, self._coming = self._coming, None
        plan = coming[1].result() if coming is not None and coming[0] == number else self._make(number)
        self._coming = number + 1, self._thread.submit(self._make, number + 1)
        return plan
