"""The values that a package provides: a metric, a loss, an optimizer, an augmentation.

This module needs the standard library alone, so a plugin that imports `cnnkit` loads nothing that it does not use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A score of predictions, which ``cnnkit eval --metric`` measures with its interval.

    `compute(labels, predicted, probabilities, *, option=default, ...)` returns one number. The arrays are of numpy: class indices
    (N,) int64, and probabilities (N, K) float32. The number must not depend on the order of the images, and may be NaN if they do not
    define it. `bounds` are its smallest and its largest possible value.
    """

    compute: Callable[..., float]
    summary: str
    bounds: tuple[float, float] | None = None
    reference: str = ""
