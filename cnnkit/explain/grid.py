"""Grids of image positions in the output of a layer: maps of a CNN, channels-last maps, or tokens of a transformer."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Literal

from torch import Tensor

MAX_PREFIX_TOKENS = 16  # before the tokens of the image; published networks have up to 5 (a class token and four registers)
CLASS_TOKENS = 1  # before the tokens of the image in most transformers
MAX_GROWTH = 1.5  # of the grid over the image: a convolution may add a border


@dataclass(frozen=True)
class Grid:
    """A grid of `size` x `size` positions with `channels` values each.

    The layouts are ``maps`` (N, C, size, size), ``last`` (N, size, size, C) and ``tokens`` (N, `prefix` + size * size, C).
    """

    size: int
    channels: int
    layout: Literal["maps", "last", "tokens"] = "maps"
    prefix: int = 0

    def maps(self, output: Tensor) -> Tensor:
        """Return the `output` of a layer with this layout as (N, C, size, size), without prefix tokens."""
        if self.layout == "maps":
            return output
        if self.layout == "tokens":
            output = output[:, self.prefix :].unflatten(1, (self.size, self.size))
        return output.movedim(-1, 1)


class GridReader:
    """A reader of layer outputs as grids, in the order in which the layers finish, for `images` square images of `image_size` px.

    Three kinds of output are not a grid. The first is a single position. The second is an output whose first dimension is not
    the number of images, such as a table of positions or windows. The third are attention weights, with one row and one
    column per token.
    """

    def __init__(self, images: int, image_size: int) -> None:
        self._images = images
        self._max_size = MAX_GROWTH * image_size
        self._last: Grid | None = None
        self._sizes: list[int] = []  # of the grids so far, the latest first
        self._token_counts: set[int] = set()  # of the grids so far

    def read(self, output: Tensor) -> Grid | None:
        """Return the grid of `output`, or None if it is not a grid."""
        if output.shape[:1] != (self._images,) or not output.is_floating_point():
            return None
        reader = {4: self._read_maps, 3: self._read_tokens}.get(output.ndim)
        grid = reader(output) if reader else None
        if grid is not None:
            self._last = grid
            self._sizes = [grid.size, *(size for size in self._sizes if size != grid.size)]
            self._token_counts.add(grid.size**2 + grid.prefix)
        return grid

    def _read_maps(self, output: Tensor) -> Grid | None:
        """Return the grid of maps, channels first or last; if all dimensions are equal, the layout is that of the previous grid."""
        _, first, second, third = output.shape
        if second == third and self._fits(second) and not (first == second and self._last and self._last.layout == "last"):
            return Grid(second, first)
        return Grid(first, third, "last") if first == second and self._fits(first) else None

    def _fits(self, size: int) -> bool:
        return 1 < size <= self._max_size and size not in self._token_counts

    def _read_tokens(self, output: Tensor) -> Grid | None:
        """Return the grid of tokens.

        The prefix is that of the previous grid, empty or a class token, if the rest is a square. Otherwise the grid has the
        size of an earlier one.
        """
        _, tokens, channels = output.shape
        for prefix in (self._last.prefix if self._last else 0, 0, CLASS_TOKENS):
            size = isqrt(max(0, tokens - prefix))
            if size**2 == tokens - prefix and 1 < size <= self._max_size:
                return Grid(size, channels, "tokens", prefix)
        known = (size for size in self._sizes if 0 < tokens - size**2 <= MAX_PREFIX_TOKENS)
        return next((Grid(size, channels, "tokens", tokens - size**2) for size in known), None)
