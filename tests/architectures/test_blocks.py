from __future__ import annotations

import pytest
import torch
from torch import nn

from cnnkit.architectures.blocks import AverageGrid, GlobalMax, halve


@pytest.mark.parametrize(("height", "width"), [(4, 4), (16, 16), (8, 12), (7, 13), (1, 3)])
def test_average_grid_equals_adaptive_average_pooling(height: int, width: int) -> None:
    maps = torch.randn(2, 3, height, width)
    torch.testing.assert_close(AverageGrid(4)(maps), nn.AdaptiveAvgPool2d(4)(maps))


def test_global_max_is_the_largest_value_of_each_map() -> None:
    maps = torch.zeros(1, 2, 3, 3)
    maps[0, 1, 2, 0] = 5
    assert GlobalMax()(maps).tolist() == [[0, 5]]


@pytest.mark.parametrize(("size", "half"), [(8, 4), (7, 4), (1, 1)])
def test_halve_rounds_up(size: int, half: int) -> None:
    assert halve()(torch.randn(1, 1, size, size)).shape == (1, 1, half, half)
