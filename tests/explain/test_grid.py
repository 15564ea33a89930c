from __future__ import annotations

import pytest
import torch

from cnnkit.explain.grid import Grid, GridReader

Shape = tuple[int, ...]


@pytest.mark.parametrize(
    ("before", "shape", "expected"),
    [
        ((), (2, 16, 8, 8), Grid(8, 16)),
        ((), (2, 16, 33, 33), Grid(33, 16)),  # a border adds a position
        ((), (2, 7, 7, 96), Grid(7, 96, "last")),
        ((), (2, 7, 7, 7), Grid(7, 7)),
        ((2, 14, 14, 7), (2, 7, 7, 7), Grid(7, 7, "last")),
        ((2, 12, 8, 8), (2, 65, 12), Grid(8, 12, "tokens", 1)),
        ((2, 12, 8, 8), (2, 69, 12), Grid(8, 12, "tokens", 5)),  # a class token and four registers
        ((2, 65, 12), (2, 17, 24), Grid(4, 24, "tokens", 1)),  # patches merged by four
        ((2, 64, 12), (2, 16, 24), Grid(4, 24, "tokens")),
        ((2, 12, 8, 8), (2, 9, 12), Grid(3, 12, "tokens")),
        ((), (2, 64, 12), Grid(8, 12, "tokens")),
        ((2, 64, 12), (2, 3, 64, 64), None),  # attention weights
        ((2, 65, 12), (2, 3, 65, 65), None),
        ((2, 12, 14, 14), (8, 49, 12), None),  # windows
        ((2, 12, 14, 14), (1, 15, 15, 12), None),  # a table of positions
        ((), (2, 16, 1, 1), None),
        ((), (2, 16, 8, 4), None),
        ((), (2, 10), None),
        ((2, 12, 8, 8), (2, 3, 20), None),
    ],
)
def test_only_outputs_over_image_positions_are_grids(before: Shape, shape: Shape, expected: Grid | None):
    reader = GridReader(2, 96 if 65 in shape or 64 in shape else 32)
    if before:
        assert reader.read(torch.zeros(before)) is not None
    assert reader.read(torch.zeros(shape)) == expected


def test_a_larger_grid_may_follow_a_smaller_one():
    """Attention may read a reduced copy of its maps and then continue with the full ones."""
    reader = GridReader(2, 96)
    for shape in ((2, 8, 24, 24), (2, 9, 8), (2, 576, 8), (2, 16, 12, 12)):
        assert reader.read(torch.zeros(shape)) is not None


def test_every_layout_becomes_maps():
    maps = torch.randn(2, 5, 3, 3)
    last = maps.permute(0, 2, 3, 1)
    tokens = torch.cat([torch.randn(2, 1, 5), last.flatten(1, 2)], 1)
    for grid, output in ((Grid(3, 5), maps), (Grid(3, 5, "last"), last), (Grid(3, 5, "tokens", 1), tokens)):
        torch.testing.assert_close(grid.maps(output), maps)
