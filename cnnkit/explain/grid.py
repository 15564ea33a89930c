"""What a layer gives, read as a grid of places in the image: maps of a CNN, channels-last maps, tokens of a transformer."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Literal

from torch import Tensor

MOST_PREFIX = 16  # tokens before those of the image; published networks have up to 5 (a class token and four registers)
MOST_GROWTH = 1.5  # a layer's grid may exceed the one before by its border; attention weights (T, T) are larger by far


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


def read_grid(output: Tensor, before: Grid) -> Grid | None:
    """Return how `output`, a layer's answer to one image, is a grid of places; None if it is not.

    `before` is the grid of the layers before it, at first the image itself. Images are square, so grids are. Not read as
    one: a single place, what a layer makes of the pieces of an image one by one (windows: the first size is not 1),
    attention weights (larger than the grid before) and what attention widens for itself (queries, keys and values).
    """
    if output.shape[:1] != (1,) or not output.is_floating_point():
        return None
    if output.ndim == 4:  # noqa: PLR2004 (N, and either C, H, W or H, W, C)
        return _of_maps(output, before)
    if output.ndim == 3:  # noqa: PLR2004 (N, T, C)
        return _of_tokens(output, before)
    return None


def _of_maps(output: Tensor, before: Grid) -> Grid | None:
    _, first, second, third = output.shape
    most = MOST_GROWTH * before.side
    maps = Grid(second, first) if second == third and 1 < second <= most else None
    last = Grid(first, third, "last") if first == second and 1 < first <= most else None
    return last if maps is None or (last is not None and before.layout == "last") else maps


def _of_tokens(output: Tensor, before: Grid) -> Grid | None:
    _, tokens, channels = output.shape
    if 0 <= tokens - before.side**2 <= MOST_PREFIX and before.side > 1:
        return Grid(before.side, channels, "tokens", tokens - before.side**2) if channels == before.channels else None
    for prefix in range(min(MOST_PREFIX, tokens)):
        side = isqrt(tokens - prefix)
        if side**2 == tokens - prefix and 1 < side < before.side:
            return Grid(side, channels, "tokens", prefix)
    return None
