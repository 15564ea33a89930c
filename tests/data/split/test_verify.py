from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnkit.data.split.verify import agreement

Picture = np.ndarray[Any, np.dtype[np.uint8]]


def view(down: float = 0, right: float = 0, tall: float = 1, wide: float = 1, seed: int = 0) -> Picture:
    """Return 16 x 16 pixels of a smooth scene, seen through a window that is moved by pixels and stretched."""
    random = np.random.default_rng(seed)
    y = ((np.arange(16) - 7.5) * tall + down)[:, None, None, None]
    x = ((np.arange(16) - 7.5) * wide + right)[:, None, None]
    waves = random.uniform(-0.9, 0.9, (2, 3, 12))
    phase, strength = random.uniform(0, 6.3, (3, 12)), random.uniform(4, 16, (3, 12))
    return (128 + (strength * np.sin(waves[0] * y + waves[1] * x + phase)).sum(-1)).clip(0, 255).astype(np.uint8)


def score(first: Picture, second: Picture) -> float:
    return float(agreement(np.stack([first, second]), np.array([[0, 1]]))[0])


def test_equal_pictures_agree_fully() -> None:
    assert score(view(), view()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    "moved",
    [view(down=1.3), view(right=-1.5), view(tall=0.9), view(tall=0.92, wide=0.88, down=0.5, right=-0.5), view(wide=1.1)],
    ids=["down", "left", "taller", "cropped", "narrower"],
)
def test_shifted_and_stretched_pictures_agree_either_way(moved: Picture) -> None:
    assert score(view(), moved) > 0.95
    assert score(moved, view()) > 0.95


def test_brightness_contrast_and_tint_do_not_matter() -> None:
    changed = (view() * 0.6 + np.array([10, 30, 50])).astype(np.uint8)
    assert score(view(), changed) > 0.99


def test_different_pictures_do_not_agree() -> None:
    scores = [score(view(), view(seed=seed)) for seed in range(1, 40)]
    assert max(scores) < 0.7


def test_mirror_images_and_negatives_do_not_agree() -> None:
    assert score(view(), view()[:, ::-1]) < 0.5
    assert score(view(), 255 - view()) < 0


def test_pictures_without_edges_agree_with_no_picture() -> None:
    blank = np.full((16, 16, 3), 90, np.uint8)
    assert score(blank, view()) == 0
    assert score(blank, blank) == 0


def test_no_pairs_have_no_scores() -> None:
    assert agreement(np.stack([view()]), np.empty((0, 2), np.int64)).shape == (0,)
