"""Fixtures of pictures that belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture
def pictures() -> Callable[[Sequence[int]], NDArray[np.uint8]]:
    """Return a function that draws a thumbnail (16, 16, 3) for each scene: pictures of one scene differ by noise alone."""

    def draw(scenes: Sequence[int]) -> NDArray[np.uint8]:
        rough = [np.kron(np.random.default_rng(int(scene)).normal(120, 40, (4, 4, 3)), np.ones((4, 4, 1))) for scene in scenes]
        noise = np.random.default_rng(99).normal(0, 25, (len(scenes), 16, 16, 3))
        return (np.stack(rough) + noise).clip(0, 255).astype(np.uint8)

    return draw
