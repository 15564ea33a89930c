from __future__ import annotations

import numpy as np

from cnnkit.report.overlay import DIMMED, overlay


def test_cold_places_are_dim_and_gray_and_warm_ones_glow():
    image = np.full((2, 2, 3), (200, 100, 0), np.uint8)
    heat = np.array([[0, 0], [0, 1]], np.float32)
    shown = overlay(image, heat)
    assert shown.dtype == np.uint8
    assert shown[0, 0].tolist() == [round(100 * DIMMED)] * 3
    red, green, blue = shown[1, 1].tolist()
    assert red > 200 > blue
    assert green > 150
