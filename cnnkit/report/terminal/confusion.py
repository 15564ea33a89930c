"""The confusion matrix in the terminal: a heat map where it fits, the worst pairs where it does not."""

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

_GREEN = ((16, 52, 16), (16, 128, 24))  # darkest and brightest; white text keeps a contrast of at least 5 on all four ends
_RED = ((52, 22, 24), (196, 32, 32))
_RED_FROM, _RED_FULL = 0.03, 0.3  # shares of a row: below, a mistake is no pattern and stays plain; above, it is as red as can be
_RED_16 = 0.1  # with 16 colours there is one red: kept for what stands out
_WHITE = Color.from_rgb(255, 255, 255)
_SHORTEST_NAME = 12  # cells; row names are cut to no less before the matrix gives up
_WIDEST_HEAD = 10
_NARROWEST_CELL = 2
_NOTHING = "·"


def confusion_table(
    table: Counts,
    classes: Sequence[str],
    normalize: Normalize = "none",
    *,
    limit: int = 30,
    files: str = "confusion.csv and confusion.png",
) -> ConfusionTable:
    """Return a renderable of a (K, K) table of counts; with `normalize` true, pred or all its cells are percent of row, column or all.

    Up to `limit` classes, on a console wide enough, it is the matrix: green on the diagonal and red off it, stronger with the
    share of the row, with row totals and recall. Otherwise it lists the most confused pairs and says that the whole is in `files`.
    """
    return ConfusionTable(table, tuple(escaped(name) for name in classes), normalize, limit, files)


@dataclass(frozen=True)
class _Layout:
    """Widths in cells, and what stands above the columns and before the rows."""

    name: int
    cell: int
    total: int
    heads: list[str]
    names: list[str]


@dataclass(frozen=True, eq=False)
class ConfusionTable:
    """Chooses between matrix and pairs when it is printed, since only then the width is known."""

    table: Counts
    names: tuple[str, ...]
    normalize: Normalize
    limit: int
    files: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines of the matrix, or the pairs."""
        count = len(self.names)
        few_colours = console.color_system in {"standard", "windows"}
        for digits in (1, 0) if count <= self.limit else ():  # percent without a decimal, where it does not fit with one
            cells = _cells(self.table, self.normalize, digits)
            layout = _layout(self.table, cells, self.names, options.max_width)
            if layout is not None:
                yield from _matrix(self.table, cells, layout, self.normalize, few_colours=few_colours)
                return
        yield Text("Most confused classes", style="bold")
        yield most_confused_table(self.table, self.names)
        yield Text(f"The whole matrix, {count} × {count}, is in {self.files}.", style="dim")


def _cells(table: Counts, normalize: Normalize, digits: int) -> list[list[str]]:
    """What stands in the cells: counts, or percent with so many `digits` after the point."""
    if normalize == "none":
        return [[str(count) if count else _NOTHING for count in row] for row in table.tolist()]
    return [[_percent(share, digits) for share in row] for row in normalized(table, normalize).tolist()]


def _percent(share: float, digits: int) -> str:
    text = f"{100 * share:.{digits}f}"
    return _NOTHING if share == 0 else text if float(text) else f"<{10**-digits:g}"


def _layout(table: Counts, cells: list[list[str]], names: Sequence[str], width: int) -> _Layout | None:
    """Fit the matrix into `width` cells; None if it cannot be done legibly."""
    digits = max(len(text) for row in cells for text in row)
    total = max(len("total"), len(str(int(table.sum(axis=1).max(initial=0)))))
    shared = width - 1 - (1 + total) - (1 + len("recall %"))
    for heads_for, row_names in ((short_heads, list(names)), (_numbers, _numbered(names))):
        longest = max(len("true ↓"), *(cell_len(name) for name in row_names))
        for name in (longest, min(longest, shared // 3), min(longest, _SHORTEST_NAME)):
            heads = heads_for(row_names, min((shared - name) // len(names) - 1, _WIDEST_HEAD))
            if heads is None:
                continue
            cell = max(digits, _NARROWEST_CELL, *(cell_len(head) for head in heads))
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
    """White on green (the diagonal) or red, stronger with the `share` in [0, 1] of the row."""
    if share == 0:
        return "dim"
    if few_colours:
        return "white on green" if hit else "white on red" if share >= _RED_16 else ""
    if not hit and share < _RED_FROM:
        return ""
    (dark, bright), strength = (_GREEN, share) if hit else (_RED, min(1.0, share / _RED_FULL))
    mixed = (round(low + (high - low) * strength) for low, high in zip(dark, bright, strict=True))
    return Style(color=_WHITE, bgcolor=Color.from_rgb(*mixed), bold=hit)
