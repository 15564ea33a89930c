"""A random state for trials that must not change the random numbers of the training."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def own_random_state(device: torch.device, seed: int) -> Generator[None]:
    """Seed torch for the body of the ``with`` statement, on `device` too, and restore its state afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
