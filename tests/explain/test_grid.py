from __future__ import annotations

import pytest
import torch

from cnnkit.explain.grid import Grid, read_grid

IMAGE = Grid(32, 3)


@pytest.mark.parametrize(
    ("shape", "before", "expected"),
    [
        ((1, 16, 8, 8), IMAGE, Grid(8, 16)),
        ((1, 16, 33, 33), IMAGE, Grid(33, 16)),  # a border adds a place
        ((1, 7, 7, 96), IMAGE, Grid(7, 96, "last")),
        ((1, 7, 7, 7), IMAGE, Grid(7, 7)),
        ((1, 7, 7, 7), Grid(14, 7, "last"), Grid(7, 7, "last")),
        ((1, 65, 12), Grid(8, 12), Grid(8, 12, "tokens", 1)),
        ((1, 69, 12), Grid(8, 12), Grid(8, 12, "tokens", 5)),  # a class token and four registers
        ((1, 16, 24), Grid(8, 12), Grid(4, 24, "tokens")),  # patches merged by four
        ((1, 64, 12), IMAGE, Grid(8, 12, "tokens")),
        ((1, 64, 36), Grid(8, 12), None),  # queries, keys and values
        ((1, 3, 64, 64), Grid(8, 12), None),  # attention weights
        ((4, 49, 12), Grid(14, 12), None),  # windows
        ((1, 16, 1, 1), IMAGE, None),
        ((1, 16, 8, 4), IMAGE, None),
        ((1, 10), IMAGE, None),
        ((1, 3, 20), Grid(8, 12), None),
    ],
)
def test_what_is_a_grid(shape, before, expected):
    assert read_grid(torch.zeros(shape), before) == expected


def test_maps_have_places_last_whatever_the_layout():
    maps = torch.randn(2, 5, 3, 3)
    last = maps.permute(0, 2, 3, 1)
    tokens = torch.cat([torch.randn(2, 1, 5), last.flatten(1, 2)], 1)
    for grid, output in ((Grid(3, 5), maps), (Grid(3, 5, "last"), last), (Grid(3, 5, "tokens", 1), tokens)):
        torch.testing.assert_close(grid.maps(output), maps)
