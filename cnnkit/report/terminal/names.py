"""Class names on the screen: they come from folders, so they may be long, wide, full of markup or control characters."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

_SHORTEST_HEAD = 3  # cells; a shorter start of a word is a riddle


def fit(name: str, width: int) -> str:
    """Return `name` in exactly `width` terminal cells: padded, or cut with a final ``…``."""
    if cell_len(name) <= width:
        return set_cell_size(name, width)
    return set_cell_size(set_cell_size(name, width - 1).rstrip() + "…", width)


def short_heads(names: Sequence[str], width: int) -> list[str] | None:
    """Return `names` cut to `width` cells for column heads, or None if two of them would then look alike."""
    if all(cell_len(name) <= width for name in names):
        return list(names)
    heads = [set_cell_size(name, min(width, cell_len(name))).rstrip() for name in names]
    return heads if width >= _SHORTEST_HEAD and len(set(heads)) == len(heads) else None
