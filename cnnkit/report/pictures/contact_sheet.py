"""Contact sheets: rows of captioned tiles in one PNG that keeps their pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cnnkit.report.pictures import thumbnail
from cnnkit.report.pictures.fonts import drawable, families

Style = Literal["plain", "good", "bad"]
TILE_SIZE = thumbnail.THUMBNAIL_SIZE  # px; 8, 16, 32 and 64 divide it
MAX_SHEET_PIXELS = 60_000_000  # take 180 MB in memory; many viewers refuse larger sheets
_DPI = 100
_POINTS = {"caption": 7.0, "note": 7.0, "label": 8.5, "title": 10.5}
_GAP = 8  # px between tiles and around them
_LINE_HEIGHT = 14  # px of a line of captions
_TITLE_HEIGHT = 26  # px of the title line
_FRAME_WIDTH = 3  # px around a marked tile
_PAPER, _MAT = (255, 255, 255), (236, 236, 236)
_INK, _INKS = "#111111", {"caption": "#555555", "note": "#b01010"}  # of other texts, and of these kinds
_FRAMES: dict[Style, tuple[int, int, int]] = {"plain": _PAPER, "good": (34, 139, 34), "bad": (200, 30, 30)}


@dataclass(frozen=True, eq=False)
class Tile:
    """A picture, uint8 RGB (H, W, 3), with a caption and a frame (``good`` green, ``bad`` red, ``plain`` none).

    The `note` below the caption is red. It says in words what a red frame means, for readers who do not see the colour.
    """

    image: NDArray[np.uint8]
    caption: str = ""
    style: Style = "plain"
    note: str = ""


def contact_sheet(
    rows: Sequence[Sequence[Tile]], *, labels: Sequence[str] = (), heads: Sequence[str] = (), title: str = "", size: int = TILE_SIZE
) -> bytes:
    """Return a PNG of `rows` of tiles; the rows may differ in length.

    `labels` name the rows, `heads` the columns. A tile is `size` px wide and high. Larger images are averaged down, smaller images are
    enlarged by a whole factor with every pixel a square. Rows that would make the sheet larger than `MAX_SHEET_PIXELS` are left out,
    and the title tells their number. Texts that do not fit are cut.
    """
    columns = max((len(row) for row in rows), default=1)
    tiles = [tile for row in rows for tile in row]
    lines = 2 if any(tile.note for tile in tiles) else int(any(tile.caption for tile in tiles))
    grid = _Grid(size, columns, label=_label_width(labels), head=bool(heads), lines=lines)
    fitting = max(1, MAX_SHEET_PIXELS // grid.width // grid.pitch)
    if len(rows) > fitting:
        title = f"{title} (the first {fitting:,} of {len(rows):,} rows)".strip()
        rows = rows[:fitting]
    canvas = np.full((grid.height(len(rows)), grid.width, 3), _PAPER, np.uint8)
    texts = [_Text(_GAP, 0, title, "title", grid.width - 2 * _GAP, _TITLE_HEIGHT)]
    texts += [_Text(grid.left(column), _TITLE_HEIGHT, head, "caption", size, _LINE_HEIGHT) for column, head in enumerate(heads[:columns])]
    for number, row in enumerate(rows):
        top = grid.top(number)
        if number < len(labels):
            texts.append(_Text(_GAP, top, labels[number], "label", grid.label - _GAP, size))
        for column, tile in enumerate(row):
            left = grid.left(column)
            _draw_frame(canvas, top, left, size, tile.style)
            canvas[top : top + size, left : left + size] = matted(tile.image, size)
            below = top + size + _FRAME_WIDTH
            texts.append(_Text(left, below, tile.caption, "caption", size, _LINE_HEIGHT))
            texts.append(_Text(left, below + _LINE_HEIGHT, tile.note, "note", size, _LINE_HEIGHT))
    return _png(canvas, texts)


def matted(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return `image` (H, W, 3), averaged down or enlarged by a whole factor, in the middle of a gray square of `size` px."""
    image = thumbnail.shrunk(image, size)
    factor = size // max(image.shape[:2])
    image = image.repeat(factor, axis=0).repeat(factor, axis=1)
    square = np.full((size, size, 3), _MAT, np.uint8)
    top, left = ((size - pixels) // 2 for pixels in image.shape[:2])
    square[top : top + image.shape[0], left : left + image.shape[1]] = image
    return square


@dataclass(frozen=True)
class _Grid:
    """The positions of tiles in pixels; `label` is the width of the text before a row, `lines` the number of lines below a tile."""

    size: int
    columns: int
    label: int
    head: bool
    lines: int

    @property
    def pitch(self) -> int:
        return self.size + _GAP + self.lines * _LINE_HEIGHT

    @property
    def width(self) -> int:
        return _GAP + self.label + self.columns * (self.size + _GAP)

    def height(self, rows: int) -> int:
        return self.top(rows) + _GAP

    def left(self, column: int) -> int:
        return _GAP + self.label + column * (self.size + _GAP)

    def top(self, row: int) -> int:
        return _TITLE_HEIGHT + (_LINE_HEIGHT if self.head else 0) + _GAP // 2 + row * self.pitch


@dataclass(frozen=True)
class _Text:
    """A line of text in a box of `width` by `height` px with its upper left corner at (x, y)."""

    x: int
    y: int
    text: str
    kind: str
    width: int
    height: int


def _draw_frame(canvas: NDArray[np.uint8], top: int, left: int, size: int, style: Style) -> None:
    if style != "plain":
        canvas[top - _FRAME_WIDTH : top + size + _FRAME_WIDTH, left - _FRAME_WIDTH : left + size + _FRAME_WIDTH] = _FRAMES[style]


def _label_width(labels: Sequence[str]) -> int:
    longest = max((_measure(drawable(label), _POINTS["label"]) for label in labels), default=0)
    return min(2 * TILE_SIZE, round(longest) + 2 * _GAP) if longest else 0


def _png(canvas: NDArray[np.uint8], texts: Sequence[_Text]) -> bytes:
    """Return a PNG of the canvas with the texts; `figimage` keeps every pixel, and matplotlib finds a font for each letter."""
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    figure.figimage(canvas, origin="upper")
    for text in texts:
        points = _POINTS[text.kind]
        shown = _cut(drawable(text.text), text.width, points)
        if shown:
            figure.text(
                text.x / width,
                1 - (text.y + text.height / 2) / height,
                shown,
                fontsize=points,
                family=list(families()),
                color=_INKS.get(text.kind, _INK),
                va="center",
                parse_math=False,
            )
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return file.getvalue()


def _cut(text: str, width: int, points: float) -> str:
    """Return `text` shortened in the middle until it fits, because the folder and the number of a file both matter."""
    if _measure(text, points) <= width:
        return text
    low, high = 0, len(text)  # bounds of the number of letters
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _measure(_middle_cut(text, middle), points) <= width else (low, middle)
    return _middle_cut(text, low)


def _middle_cut(text: str, letters: int) -> str:
    head = letters // 3  # file names differ at the end
    return f"{text[:head]}…{text[len(text) - (letters - head) :]}"


def _measure(text: str, points: float) -> float:
    """Return the width of `text` in pixels."""
    font = _font()
    font.set_size(points, _DPI)
    font.set_text(text, 0.0)
    return font.get_width_height()[0] / 64  # FreeType counts in 64ths


@cache
def _font() -> Any:
    return font_manager.get_font([font_manager.findfont(family) for family in families()])
