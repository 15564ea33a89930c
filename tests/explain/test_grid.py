from __future__ import annotations

import pytest
import torch

from cnnkit.explain.grid import Grid, GridReader

Shape = tuple[int, ...]


@pytest.mark.parametrize(
    ("before", "shape", "expected"),
    [
        ((), (1, 16, 8, 8), Grid(8, 16)),
        ((), (1, 16, 33, 33), Grid(33, 16)),  # a border adds a place
        ((), (1, 7, 7, 96), Grid(7, 96, "last")),
        ((), (1, 7, 7, 7), Grid(7, 7)),
        ((1, 14, 14, 7), (1, 7, 7, 7), Grid(7, 7, "last")),
        ((1, 12, 8, 8), (1, 65, 12), Grid(8, 12, "tokens", 1)),
        ((1, 12, 8, 8), (1, 69, 12), Grid(8, 12, "tokens", 5)),  # a class token and four registers
        ((1, 65, 12), (1, 17, 24), Grid(4, 24, "tokens", 1)),  # patches merged by four
        ((1, 64, 12), (1, 16, 24), Grid(4, 24, "tokens")),
        ((1, 12, 8, 8), (1, 9, 12), Grid(3, 12, "tokens")),
        ((), (1, 64, 12), Grid(8, 12, "tokens")),
        ((1, 64, 12), (1, 3, 64, 64), None),  # attention weights
        ((1, 65, 12), (1, 3, 65, 65), None),
        ((1, 12, 14, 14), (4, 49, 12), None),  # windows
        ((), (1, 16, 1, 1), None),
        ((), (1, 16, 8, 4), None),
        ((), (1, 10), None),
        ((1, 12, 8, 8), (1, 3, 20), None),
    ],
)
def test_what_is_a_grid(before: Shape, shape: Shape, expected: Grid | None):
    reader = GridReader(96 if 65 in shape or 64 in shape else 32)
    if before:
        assert reader.read(torch.zeros(before)) is not None
    assert reader.read(torch.zeros(shape)) == expected


def test_a_grid_may_come_back_after_a_smaller_one():
    """Attention that reads a reduced copy of its maps goes on with the whole ones."""
    reader = GridReader(96)
    for shape in ((1, 8, 24, 24), (1, 9, 8), (1, 576, 8), (1, 16, 12, 12)):
        assert reader.read(torch.zeros(shape)) is not None


def test_maps_have_places_last_whatever_the_layout():
    maps = torch.randn(2, 5, 3, 3)
    last = maps.permute(0, 2, 3, 1)
    tokens = torch.cat([torch.randn(2, 1, 5), last.flatten(1, 2)], 1)
    for grid, output in ((Grid(3, 5), maps), (Grid(3, 5, "last"), last), (Grid(3, 5, "tokens", 1), tokens)):
        torch.testing.assert_close(grid.maps(output), maps)
