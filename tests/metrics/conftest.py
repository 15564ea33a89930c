"""Random logits and labels with a known temperature."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import softmax

Drawn = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def drawn() -> Callable[..., Drawn]:
    """Return a function ``drawn(n, temperature)``: labels (n,) drawn from softmax(z), and logits `temperature` * z (n, K)."""

    def draw(n: int, temperature: float = 1.0, *, classes: int = 5, seed: int = 0, spread: float = 3.0) -> Drawn:
        rng = np.random.default_rng(seed)
        logits = rng.normal(0, spread, (n, classes))
        labels = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=classes - 1)
        return labels, temperature * logits

    return draw
