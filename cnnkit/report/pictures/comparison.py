"""The forest plot of a comparison: the differences of all pairs with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cnnkit.errors import counted
from cnnkit.files import whole_file
from cnnkit.metrics.comparison_report import Comparison
from cnnkit.metrics.intervals import Estimate
from cnnkit.report.pictures.fonts import families, plot_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 120
_ROW_HEIGHT, _MARGIN_HEIGHT = 0.34, 2.1  # inches, of each pair and of titles and legend together
_WORSE, _BETTER, _UNCLEAR = "#b35806", "#1f77b4", "#555555"
_AXIS_MARGIN = 1.15  # of the farthest end of an interval, in both directions from 0


def plot_differences(comparison: Comparison, path: Path) -> None:
    """Write the differences in accuracy, macro-F1 (points) and loss (nats) of every pair to `path` (PNG), zero in the middle.

    A filled dot marks a difference in accuracy that McNemar's test finds significant, blue if the second model is better. An empty dot
    marks any other difference in accuracy. Macro-F1 and loss have no test and are gray.
    """
    pairs = comparison.pairs
    figure = Figure(figsize=(11.0, _MARGIN_HEIGHT + _ROW_HEIGHT * len(pairs)), dpi=_DPI, layout="constrained")
    accuracy, macro_f1, loss = figure.subplots(1, 3, sharey=True)
    colours = [(_BETTER if pair.better == pair.second else _WORSE) if pair.better else _UNCLEAR for pair in pairs]
    _draw(accuracy, [pair.accuracy for pair in pairs], 100, colours, [pair.better is not None for pair in pairs])
    gray = [_UNCLEAR] * len(pairs)
    _draw(macro_f1, [pair.macro_f1 for pair in pairs], 100, gray, [True] * len(pairs))
    _draw(loss, [pair.loss for pair in pairs], 1, gray, [True] * len(pairs))
    for axes, title, label in (
        (accuracy, "accuracy", "points: worse ← 0 → better"),
        (macro_f1, "macro F1", "points: worse ← 0 → better"),
        (loss, "loss", "nats: better ← 0 → worse"),
    ):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(label)
    names = [each.name for each in comparison.contenders]
    labels = dict(zip(names, plot_labels(names), strict=True))
    accuracy.set_yticks(range(len(pairs)), [f"{labels[pair.first]} → {labels[pair.second]}" for pair in pairs], family=families())
    accuracy.set_ylim(len(pairs) - 0.5, -0.5)
    figure.suptitle(f"{comparison.split}, {counted(len(comparison.paths))}: from the first to the second, 95 % intervals", fontsize=11)
    kinds = ((_BETTER, True, "better, p < 0.05"), (_WORSE, True, "worse, p < 0.05"), (_UNCLEAR, False, "not significant"))
    figure.legend(handles=[_key(*kind) for kind in kinds], loc="outside lower left", ncols=len(kinds), frameon=False, fontsize=8)
    with whole_file(path) as part, part.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})


def _draw(axes: Axes, estimates: Sequence[Estimate], scale: float, colours: Sequence[str], filled: Sequence[bool]) -> None:
    for row, (estimate, colour, full) in enumerate(zip(estimates, colours, filled, strict=True)):
        if math.isfinite(estimate.low):
            axes.plot([scale * estimate.low, scale * estimate.high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([scale * estimate.value], [row], "o", color=colour, markerfacecolor=colour if full else "white", markersize=7)
    axes.axvline(0, color="black", linewidth=0.8, zorder=0)
    ends = [scale * end for each in estimates for end in (each.low, each.value, each.high) if math.isfinite(end)]
    reach = _AXIS_MARGIN * max(map(abs, ends)) or 1.0
    axes.set_xlim(-reach, reach)
    axes.grid(axis="x", alpha=0.3)


def _key(colour: str, full: bool, label: str) -> Line2D:  # noqa: FBT001
    return Line2D([], [], color=colour, marker="o", markerfacecolor=colour if full else "white", label=label)
