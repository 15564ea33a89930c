"""The confusion matrix in the terminal: a heat map if it fits, otherwise the most confused pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.color import Color
from rich.style import Style
from rich.text import Text

from cnnkit.metrics.confusion import SHARE_OF, Normalize, normalized
from cnnkit.metrics.counts import Counts, margins
from cnnkit.metrics.scores import recall_of
from cnnkit.report.terminal.console import escaped
from cnnkit.report.terminal.names import fit, short_heads
from cnnkit.report.terminal.numbers import percent
from cnnkit.report.terminal.tables import most_confused_table

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_GREEN = ((16, 52, 16), (16, 128, 24))  # darkest and brightest; white text has a contrast of at least 5 on all four colours
_RED = ((52, 22, 24), (196, 32, 32))
_MIN_RED_SHARE, _FULL_RED_SHARE = 0.03, 0.3  # of a row: a smaller mistake stays plain, a larger mistake has the brightest red
_MIN_RED_SHARE_16 = 0.1  # with 16 colours there is only one red, for large mistakes
_WHITE = Color.from_rgb(255, 255, 255)
_MIN_NAME_WIDTH = 12  # cells; a matrix that needs shorter row names is not shown
_MAX_HEAD_WIDTH = 10
_MIN_CELL_WIDTH = 2
_ZERO = "·"


def confusion_table(
    table: Counts,
    classes: Sequence[str],
    normalize: Normalize = "none",
    *,
    limit: int = 30,
    files: str = "confusion.csv and confusion.png",
) -> ConfusionTable:
    """Return a renderable of a (K, K) table of counts, or of percent of row, column or all with `normalize` true, pred or all.

    A wide console shows the matrix of up to `limit` classes with row totals and recall. The diagonal is green, other cells are red, and
    the strength is the share of the row. Otherwise the renderable lists the most confused pairs and refers to `files`.
    """
    return ConfusionTable(table, tuple(escaped(name) for name in classes), normalize, limit, files)


@dataclass(frozen=True)
class _Layout:
    """The widths in cells, the heads of the columns and the names of the rows."""

    name: int
    cell: int
    total: int
    heads: list[str]
    names: list[str]


@dataclass(frozen=True, eq=False)
class ConfusionTable:
    """A renderable that chooses between matrix and pairs when a console of known width prints it."""

    table: Counts
    names: tuple[str, ...]
    normalize: Normalize
    limit: int
    files: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines of the matrix, or the table of pairs."""
        count = len(self.names)
        few_colours = console.color_system in {"standard", "windows"}
        for digits in (1, 0) if count <= self.limit else ():  # a narrow console omits the decimal of percent
            cells = _cells(self.table, self.normalize, digits)
            layout = _layout(self.table, cells, self.names, options.max_width)
            if layout is not None:
                yield from _matrix(self.table, cells, layout, self.normalize, few_colours=few_colours)
                return
        yield Text("Most confused classes", style="bold")
        yield most_confused_table(self.table, self.names)
        yield Text(f"The whole matrix, {count} × {count}, is in {self.files}.", style="dim")


def _cells(table: Counts, normalize: Normalize, digits: int) -> list[list[str]]:
    """Return the texts of the cells: counts, or percent with `digits` decimals."""
    if normalize == "none":
        return [[str(count) if count else _ZERO for count in row] for row in table.tolist()]
    return [[_percent(share, digits) for share in row] for row in normalized(table, normalize).tolist()]


def _percent(share: float, digits: int) -> str:
    text = f"{100 * share:.{digits}f}"
    return _ZERO if share == 0 else text if float(text) else f"<{10**-digits:g}"


def _layout(table: Counts, cells: list[list[str]], names: Sequence[str], width: int) -> _Layout | None:
    """Return a layout that fits into `width` cells; None if there is no legible layout."""
    digits = max(len(text) for row in cells for text in row)
    total = max(len("total"), len(str(int(table.sum(axis=1).max(initial=0)))))
    shared = width - 1 - (1 + total) - (1 + len("recall %"))
    for heads_for, row_names in ((short_heads, list(names)), (_numbers, _numbered(names))):
        longest = max(len("true ↓"), *(cell_len(name) for name in row_names))
        for name in (longest, min(longest, shared // 3), min(longest, _MIN_NAME_WIDTH)):
            heads = heads_for(row_names, min((shared - name) // len(names) - 1, _MAX_HEAD_WIDTH))
            if heads is None:
                continue
            cell = max(digits, _MIN_CELL_WIDTH, *(cell_len(head) for head in heads))
            if name + len(names) * (cell + 1) <= shared:
                return _Layout(name, cell, total, heads, row_names)
    return None


def _numbers(names: Sequence[str], _width: int) -> list[str]:
    return [str(i) for i in range(len(names))]


def _numbered(names: Sequence[str]) -> list[str]:
    digits = len(str(len(names) - 1))
    return [f"{i:>{digits}} {name}" for i, name in enumerate(names)]


def _matrix(table: Counts, cells: list[list[str]], layout: _Layout, normalize: Normalize, *, few_colours: bool) -> list[Text]:
    sums = margins(table)
    recall = recall_of(sums)
    shares = normalized(table, "pred" if normalize == "pred" else "true")
    unit = "" if normalize == "none" else f" (cells: % of {SHARE_OF[normalize]})"
    head = Text(fit("true ↓", layout.name) + " ", style="bold")
    for text in layout.heads:
        head.append(" " + _right(text, layout.cell))
    head.append(f" {'total':>{layout.total}} recall %")
    lines = [Text(" " * (layout.name + 2) + f"predicted →{unit}", style="bold"), head, Text("─" * head.cell_len)]
    for row, name in enumerate(layout.names):
        line = Text(fit(name, layout.name) + " ")
        for column in range(len(layout.names)):
            style = _heat(float(shares[row, column]), hit=row == column, few_colours=few_colours)
            line.append(" " + _right(cells[row][column], layout.cell), style)
        line.append(f" {sums.support[row]:>{layout.total}} {percent(float(recall[row])):>{len('recall %')}}")
        lines.append(line)
    for line in lines:
        line.no_wrap = True
    return lines


def _right(text: str, width: int) -> str:
    return " " * (width - cell_len(text)) + text


def _heat(share: float, *, hit: bool, few_colours: bool) -> str | Style:
    """Return white on green (a hit) or white on red, stronger with the `share` in [0, 1] of the row."""
    if share == 0:
        return "dim"
    if few_colours:
        return "white on green" if hit else "white on red" if share >= _MIN_RED_SHARE_16 else ""
    if not hit and share < _MIN_RED_SHARE:
        return ""
    (dark, bright), strength = (_GREEN, share) if hit else (_RED, min(1.0, share / _FULL_RED_SHARE))
    mixed = (round(low + (high - low) * strength) for low, high in zip(dark, bright, strict=True))
    return Style(color=_WHITE, bgcolor=Color.from_rgb(*mixed), bold=hit)
