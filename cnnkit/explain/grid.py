"""What a layer gives, read as a grid of places in the image: maps of a CNN, channels-last maps, tokens of a transformer."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Literal

from torch import Tensor

MOST_PREFIX = 16  # tokens before those of the image; published networks have up to 5 (a class token and four registers)
CLASS_TOKEN = 1  # token that most transformers put before those of the image
MOST_GROWTH = 1.5  # of the image's side: a convolution may add a border


@dataclass(frozen=True)
class Grid:
    """`side` x `side` places with `channels` values each.

    The layouts are ``maps`` (N, C, side, side), ``last`` (N, side, side, C) and ``tokens`` (N, `prefix` + side * side, C).
    """

    side: int
    channels: int
    layout: Literal["maps", "last", "tokens"] = "maps"
    prefix: int = 0

    def maps(self, output: Tensor) -> Tensor:
        """Return `output` of a layer of this layout as (N, C, side, side), tokens that stand for no place left out."""
        if self.layout == "maps":
            return output
        if self.layout == "tokens":
            output = output[:, self.prefix :].unflatten(1, (self.side, self.side))
        return output.movedim(-1, 1)


class GridReader:
    """Reads what layer after layer gives to `images` (N, C, `side`, `side`) as grids of places, in the order in which they finish.

    Images are square, so grids are. Not read as one: a single place, what a layer makes of no image or of their pieces one by one
    (tables of positions, windows: the first size is not N), and attention weights (as many rows and columns as there are tokens).
    """

    def __init__(self, images: int, side: int) -> None:
        self._images = images
        self._most = MOST_GROWTH * side
        self._last: Grid | None = None
        self._sides: list[int] = []  # of the grids so far, the latest first
        self._tokens: set[int] = set()  # as many as those grids make

    def read(self, output: Tensor) -> Grid | None:
        """Return how `output` is a grid; None if it is not."""
        if output.shape[:1] != (self._images,) or not output.is_floating_point():
            return None
        reader = {4: self._maps, 3: self._sequence}.get(output.ndim)
        grid = reader(output) if reader else None
        if grid is not None:
            self._last = grid
            self._sides = [grid.side, *(side for side in self._sides if side != grid.side)]
            self._tokens.add(grid.side**2 + grid.prefix)
        return grid

    def _maps(self, output: Tensor) -> Grid | None:
        """Maps, or channels last; where all sizes are equal, as the layer before."""
        _, first, second, third = output.shape
        if second == third and self._fits(second) and not (first == second and self._last and self._last.layout == "last"):
            return Grid(second, first)
        return Grid(first, third, "last") if first == second and self._fits(first) else None

    def _fits(self, side: int) -> bool:
        return 1 < side <= self._most and side not in self._tokens

    def _sequence(self, output: Tensor) -> Grid | None:
        """Tokens: of a square with as many others as before, none or a class token; else of a known grid with a few others."""
        _, tokens, channels = output.shape
        for prefix in (self._last.prefix if self._last else 0, 0, CLASS_TOKEN):
            side = isqrt(max(0, tokens - prefix))
            if side**2 == tokens - prefix and 1 < side <= self._most:
                return Grid(side, channels, "tokens", prefix)
        known = (side for side in self._sides if 0 < tokens - side**2 <= MOST_PREFIX)
        return next((Grid(side, channels, "tokens", tokens - side**2) for side in known), None)
