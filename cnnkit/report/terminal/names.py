"""Class names on the screen; they come from folders and may be long or wide."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

_MIN_HEAD_WIDTH = 3  # cells; a shorter start of a word is not recognisable


def fit(name: str, width: int) -> str:
    """Return `name` in exactly `width` terminal cells: padded, or cut with a final ``…``."""
    if cell_len(name) <= width:
        return set_cell_size(name, width)
    return set_cell_size(set_cell_size(name, width - 1).rstrip() + "…", width)


def short_heads(names: Sequence[str], width: int) -> list[str] | None:
    """Return `names` cut to `width` cells for column heads, or None if two heads would be equal."""
    if all(cell_len(name) <= width for name in names):
        return list(names)
    heads = [set_cell_size(name, min(width, cell_len(name))).rstrip() for name in names]
    return heads if width >= _MIN_HEAD_WIDTH and len(set(heads)) == len(heads) else None
