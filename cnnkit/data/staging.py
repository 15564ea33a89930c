"""Copies of host memory to a GPU that overlap with its work."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class _End(Enum):
    END = 0


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return `values`, a tensor of the host, on `device`; the copy to a CUDA GPU does not wait for the work of the GPU.

    That needs memory that the system cannot move, which torch keeps until the copy has ended. On the CPU it is the same tensor.
    """
    return pinned(values, device).to(device, non_blocking=device.type == "cuda")


def pinned(values: Tensor, device: torch.device) -> Tensor:
    """Return `values` in the memory from which a copy to `device` need not wait: a copy for a CUDA GPU, else the same tensor."""
    return values.pin_memory() if device.type == "cuda" and not values.is_pinned() else values


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield `items`, each made by a thread while the caller works with the item before it."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, _End.END)
        while (item := coming.result()) is not _End.END:
            coming = thread.submit(next, items, _End.END)
            yield item
