"""A random state for trials that must not change the random numbers of the training."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def own_random_state(device: torch.device, seed: int) -> Generator[None]:
    """Seed torch for the body of the ``with`` statement, on `device` too, and restore its state afterwards.

    The states of numpy and of Python's `random`, which third-party code may use, are restored too.
    """
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the state that others share)
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
