"""Random numbers as a pure function of (seed, epoch, key), independent of order, batch, interruption and worker."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio


def uniform(seed: int, epoch: int, keys: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Return `count` uniform numbers in [0, 1) for each of the N `keys`, float32 (N, count).

    They come from the finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), applied to a counter of all arguments.
    """
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2**64
        stream = _mix(np.array([seed], np.uint64) * _GOLDEN + np.uint64(epoch))
        base = _mix(keys.astype(np.uint64) + stream)[:, None]
        bits = _mix(base + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN)
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)  # a float32 holds 24 bits


def permutation(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    """Return a random order (size,) of `size` samples in `epoch`."""
    return np.random.default_rng((seed, epoch)).permutation(size)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
