"""Many small pictures on one: rows of captioned tiles as a PNG, pixels as they are."""

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
SIDE = thumbnail.SIDE  # px of a tile; 8, 16, 32 and 64 divide it
MOST_PIXELS = 60_000_000  # of a sheet: 180 MB while it is made; viewers begin to refuse somewhat above
_DPI = 100
_POINTS = {"caption": 7.0, "label": 8.5, "title": 10.5}
_GAP = 8  # px between tiles and around them
_LINE = 14  # px of a line of captions
_TITLE = 26  # px of the line above
_EDGE = 3  # px of the frame that marks a tile
_PAPER, _MAT, _INK, _FADED = (255, 255, 255), (236, 236, 236), "#111111", "#555555"
_FRAMES: dict[Style, tuple[int, int, int]] = {"plain": _PAPER, "good": (34, 139, 34), "bad": (200, 30, 30)}


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture: uint8 RGB (H, W, 3), a line below it, and whether it is framed (``good`` green, ``bad`` red)."""

    image: NDArray[np.uint8]
    caption: str = ""
    style: Style = "plain"


def contact_sheet(
    rows: Sequence[Sequence[Tile]], *, labels: Sequence[str] = (), heads: Sequence[str] = (), title: str = "", side: int = SIDE
) -> bytes:
    """Return a PNG of `rows` of tiles, which need not be of one length.

    `labels` stand before the rows (one each), `heads` above the columns. A tile is at most `side` px a side: larger images are
    averaged down, smaller ones enlarged by a whole factor with every pixel a square. Rows that would make the sheet larger
    than `MOST_PIXELS` are left out, and the title says so. Texts are cut where they would not fit.
    """
    columns = max((len(row) for row in rows), default=1)
    grid = _Grid(side, columns, label=_label_width(labels), head=bool(heads), caption=any(tile.caption for row in rows for tile in row))
    fitting = max(1, MOST_PIXELS // grid.width // grid.pitch)
    if len(rows) > fitting:
        title = f"{title} (the first {fitting:,} of {len(rows):,} rows)".strip()
        rows = rows[:fitting]
    canvas = np.full((grid.height(len(rows)), grid.width, 3), _PAPER, np.uint8)
    texts = [_Text(_GAP, 0, title, "title", grid.width - 2 * _GAP, _TITLE)]
    texts += [_Text(grid.left(column), _TITLE, head, "caption", side, _LINE) for column, head in enumerate(heads[:columns])]
    for number, row in enumerate(rows):
        top = grid.top(number)
        if number < len(labels):
            texts.append(_Text(_GAP, top, labels[number], "label", grid.label - _GAP, side))
        for column, tile in enumerate(row):
            left = grid.left(column)
            _frame(canvas, top, left, side, tile.style)
            canvas[top : top + side, left : left + side] = framed(tile.image, side)
            texts.append(_Text(left, top + side + _EDGE, tile.caption, "caption", side, _LINE))
    return _png(canvas, texts)


def framed(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return `image` (H, W, 3) as large as it gets in the middle of a gray square of `side` px: averaged down, or its pixels as squares."""
    image = thumbnail.shrunk(image, side)
    factor = side // max(image.shape[:2])
    image = image.repeat(factor, axis=0).repeat(factor, axis=1)
    square = np.full((side, side, 3), _MAT, np.uint8)
    top, left = ((side - pixels) // 2 for pixels in image.shape[:2])
    square[top : top + image.shape[0], left : left + image.shape[1]] = image
    return square


@dataclass(frozen=True)
class _Grid:
    """Where tiles stand, in pixels; `label` is the width kept for the text before a row."""

    side: int
    columns: int
    label: int
    head: bool
    caption: bool

    @property
    def pitch(self) -> int:
        return self.side + _GAP + (_LINE if self.caption else 0)

    @property
    def width(self) -> int:
        return _GAP + self.label + self.columns * (self.side + _GAP)

    def height(self, rows: int) -> int:
        return self.top(rows) + _GAP

    def left(self, column: int) -> int:
        return _GAP + self.label + column * (self.side + _GAP)

    def top(self, row: int) -> int:
        return _TITLE + (_LINE if self.head else 0) + _GAP // 2 + row * self.pitch


@dataclass(frozen=True)
class _Text:
    """A line in a box of `width` by `height` px whose upper left corner is at (x, y)."""

    x: int
    y: int
    text: str
    kind: str
    width: int
    height: int


def _frame(canvas: NDArray[np.uint8], top: int, left: int, side: int, style: Style) -> None:
    if style != "plain":
        canvas[top - _EDGE : top + side + _EDGE, left - _EDGE : left + side + _EDGE] = _FRAMES[style]


def _label_width(labels: Sequence[str]) -> int:
    longest = max((_measure(drawable(label), _POINTS["label"]) for label in labels), default=0)
    return min(2 * SIDE, round(longest) + 2 * _GAP) if longest else 0


def _png(canvas: NDArray[np.uint8], texts: Sequence[_Text]) -> bytes:
    """Lay the texts over the pixels: `figimage` keeps every pixel, and matplotlib takes each letter from a font that has it."""
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
                color=_FADED if text.kind == "caption" else _INK,
                va="center",
                parse_math=False,
            )
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return file.getvalue()


def _cut(text: str, width: int, points: float) -> str:
    """Shorten `text` in the middle until it fits: of a path, both the folder and the file's number tell something."""
    if _measure(text, points) <= width:
        return text
    low, high = 0, len(text)  # letters that may stay
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _measure(_middle_cut(text, middle), points) <= width else (low, middle)
    return _middle_cut(text, low)


def _middle_cut(text: str, letters: int) -> str:
    head = letters // 3  # the end tells more: file names differ there
    return f"{text[:head]}…{text[len(text) - (letters - head) :]}"


def _measure(text: str, points: float) -> float:
    """The width of `text` in pixels."""
    font = _font()
    font.set_size(points, _DPI)
    font.set_text(text, 0.0)
    return font.get_width_height()[0] / 64  # FreeType counts in 64ths


@cache
def _font() -> Any:
    return font_manager.get_font([font_manager.findfont(family) for family in families()])
