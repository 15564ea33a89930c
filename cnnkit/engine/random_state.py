"""Trials that draw random numbers and leave no trace of it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def own_random_state(device: torch.device, seed: int) -> Generator[None]:
    """Seed torch for the body, dropout on `device` included, and put its state back as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
