"""Canvases in the memory of a GPU, where an epoch needs no copy from the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnkit.data.epoch_plan import EpochPlan
from cnnkit.data.staging import one_ahead, to_device
from cnnkit.data.store.stream import Canvases, StreamedCanvases, gather, in_batches
from cnnkit.errors import is_out_of_memory

MAX_RESIDENT_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class ResidentCanvases:
    """Canvases of a store on a device, uint8 (N, C, S, S); `positions` (M,) has for each row of the store its index among them, or -1."""

    canvases: Tensor
    positions: NDArray[np.int64]

    def batches(self, plan: EpochPlan, sizes: Sequence[int]) -> Iterator[tuple[Tensor, EpochPlan]]:
        """Yield canvases and plan of each batch of an epoch; `sizes` add up to the samples of `plan`.

        The plan is copied to the device once. Then no batch copies from the host or waits for the device.
        """
        device = self.canvases.device
        positions = to_device(torch.from_numpy(self.positions[plan.rows]), device)
        plan = plan.to(device)
        start = 0
        for size in sizes:
            stop = start + size
            yield self.canvases.index_select(0, positions[start:stop]), plan.part(start, stop)
            start = stop


def make_resident(canvases: Canvases, rows: NDArray[np.int64], device: torch.device, free: int) -> ResidentCanvases | None:
    """Copy the canvases `rows` of a store to `device`, or return None if they take more than `MAX_RESIDENT_SHARE` of the `free` bytes.

    A training step with ``--batch-size auto`` may take 0.6 of the free memory (`cnnkit.engine.batch_size`). A quarter for the canvases
    leaves 0.15 for validation and for gaps between tensors. Canvases that every epoch decodes again (``--cache none``) have no store.
    """
    rows = np.unique(rows)
    shape = (len(rows), *canvases.shape[1:])
    if isinstance(canvases, StreamedCanvases) or np.prod(shape, dtype=np.int64) > MAX_RESIDENT_SHARE * free:
        return None
    try:
        resident = torch.empty(shape, dtype=torch.uint8, device=device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None  # another program has taken the memory in the meantime
    start = 0
    for block in one_ahead(map(torch.from_numpy, gather(canvases, in_batches(rows)))):
        resident[start : start + len(block)] = to_device(block, device)
        start += len(block)
    positions = np.full(canvases.shape[0], -1, np.int64)
    positions[rows] = np.arange(len(rows))
    return ResidentCanvases(resident, positions)
