"""The random state of torch: of trials that must not change it, and of a training that goes on inside an epoch."""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


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


def get_random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of the generators that dropout on `device` uses, by the type of their device."""
    states = {"cpu": torch.get_rng_state()}
    return states if device.type == "cpu" else {**states, device.type: torch.get_device_module(device).get_rng_state()}


def set_random_state(device: torch.device, states: Mapping[str, Tensor]) -> None:
    """Restore the states that `get_random_state` returned."""
    torch.set_rng_state(states["cpu"])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[device.type])
