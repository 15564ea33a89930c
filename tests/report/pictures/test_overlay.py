from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnkit.report.pictures.overlay import MIN_OUTLINED_SIZE, overlay


def half_hot(size: int) -> np.ndarray[Any, Any]:
    heat = np.zeros((size, size), np.float32)
    heat[:, : size // 2] = 1
    return heat


@pytest.mark.parametrize("level", [0, 128, 255])
def test_heat_differs_from_no_heat_on_dark_and_light_images(level):
    shown = overlay(np.full((64, 64, 3), level, np.uint8), half_hot(64), size=64).astype(int)
    hot, cold = shown[32, 8], shown[32, 56]
    assert hot[1] > hot[2] + 40, "most evidence must be yellow or green"
    assert cold[2] > cold[1], "no evidence must be purple or blue"
    assert abs(hot - cold).max() > 60


def test_the_line_at_half_has_a_white_and_a_black_edge():
    for level in (0, 255):
        row = overlay(np.full((128, 128, 3), level, np.uint8), half_hot(128))[64]
        assert (row[63] == 255).all()
        assert (row[64] == 0).all()


def test_the_image_stays_visible_under_the_heat():
    canvas = np.zeros((64, 64, 3), np.uint8)
    canvas[::8] = 255
    shown = overlay(canvas, np.full((64, 64), 0.3, np.float32), size=64).astype(int)
    assert (shown[8, :] - shown[12, :]).min() > 40


def test_small_canvases_are_enlarged_by_a_whole_factor():
    assert overlay(np.zeros((28, 28, 3), np.uint8), half_hot(28), size=256).shape == (252, 252, 3)
    assert overlay(np.zeros((300, 300, 3), np.uint8), half_hot(300), size=256).shape == (300, 300, 3)
    assert overlay(np.zeros((32, 32, 3), np.uint8), half_hot(32)).shape == (32, 32, 3)


def test_a_small_picture_has_no_line():
    size = MIN_OUTLINED_SIZE - 1
    row = overlay(np.full((size, size, 3), 128, np.uint8), half_hot(size))[size // 2].astype(int)
    assert ((row > 0) & (row < 255)).all()
    assert len(np.unique(row, axis=0)) == 2
