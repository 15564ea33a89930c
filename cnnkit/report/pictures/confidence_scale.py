"""A scale of probabilities that stretches those near 100 %, where a good model has nearly all of its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENT = 0.95  # bins above it lie in the last twentieth of a plain axis
RESOLUTION = 1e-3  # distances from 100 % below it shrink, so that 100 % itself lies on the axis
_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)


class ConfidenceBin(Protocol):
    """A bin of images with their number and their mean confidence."""

    @property
    def count(self) -> int:
        """The number of images."""
        ...

    @property
    def confidence(self) -> float:
        """The mean probability of the predicted class."""
        ...


def is_confident(bins: Sequence[ConfidenceBin]) -> bool:
    """Return True if more than half of the images lie in bins above `CONFIDENT`."""
    above = sum(one.count for one in bins if one.confidence > CONFIDENT)
    return 2 * above > sum(one.count for one in bins)


def stretched(probability: ArrayLike) -> NDArray[np.float64]:
    """Return positions on the axis: 0 at 0 %, about 1 at 90 %, 2 at 99 %, 3 at 100 %."""
    return np.log10((1 + RESOLUTION) / (1 + RESOLUTION - np.asarray(probability, np.float64)))


def unstretched(position: ArrayLike) -> NDArray[np.float64]:
    """Return the probabilities at positions on the axis, the inverse of `stretched`."""
    return (1 + RESOLUTION) * (1 - 10.0 ** -np.asarray(position, np.float64))


def stretched_ticks(low: float, gap: float) -> list[float]:
    """Return probabilities for the labels of an axis from `low` to 1, at least `gap` of its length apart, from 1 downwards."""
    found = [1.0]
    whole = float(stretched(1.0) - stretched(low))
    for tick in reversed(_TICKS[:-1]):
        if tick >= low and float(stretched(found[-1]) - stretched(tick)) >= gap * whole:
            found.append(tick)
    return found[::-1]
