"""The pictures of a search: the values of its trials with the best so far, and the importance of its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cnnkit.report.pictures.fonts import drawable, families
from cnnkit.report.pictures.plots import DPI, save

_COMPLETE_COLOUR, _PRUNED_COLOUR, _BEST_COLOUR = "#1f77b4", "#999999", "#d62728"
_HEADROOM = 0.08  # of the height of the complete trials, free above and below
_MAX_BARS = 20

Point = tuple[int, float, str]  # number, value and state of a trial


def plot_history(points: Sequence[Point], path: Path, *, metric: str, maximize: bool, title: str = "") -> None:
    """Write the value of each trial over its number to `path` (PNG), with the best complete trial so far.

    The vertical axis fits the complete trials: a pruned one may be far worse and stands at the edge.
    """
    figure = Figure(figsize=(8.0, 4.5), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    complete = [(number, value) for number, value, state in points if state == "complete"]
    values = [value for _, value in complete]
    low, high = min(values), max(values)
    room = _HEADROOM * max(high - low, 0.01 * abs(high), 1e-6)
    axes.set_ylim(low - room, high + room)
    pruned = [(number, min(max(value, low - room), high + room)) for number, value, state in points if state == "pruned"]
    for found, colour, marker, label in (
        (complete, _COMPLETE_COLOUR, "o", "complete"),
        (pruned, _PRUNED_COLOUR, "x", "pruned, at its last epoch"),
    ):
        if found:
            axes.plot(*zip(*found, strict=True), color=colour, marker=marker, markersize=5, linestyle="", label=label, clip_on=False)
    best = np.maximum.accumulate(values) if maximize else np.minimum.accumulate(values)
    axes.step([number for number, _ in complete], best, where="post", color=_BEST_COLOUR, linewidth=1.5, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel("val_loss (nats)" if metric == "val_loss" else metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if metric != "val_loss":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.grid(alpha=0.3)
    axes.legend()
    _finish(figure, title, path)


def plot_importances(importances: Mapping[str, float], path: Path, *, title: str = "") -> None:
    """Write a bar for each parameter to `path` (PNG), the most important one first: its share in the differences between the trials."""
    shown = sorted(importances.items(), key=lambda item: -item[1])[:_MAX_BARS]
    figure = Figure(figsize=(8.0, 1.4 + 0.35 * len(shown)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    positions = np.arange(len(shown))
    axes.barh(positions, [share for _, share in shown], color=_COMPLETE_COLOUR)
    axes.set_yticks(positions, [drawable(name).replace("$", r"\$") for name, _ in shown], family=families())
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.set_xlabel("importance: share in the differences between complete trials")
    axes.grid(alpha=0.3, axis="x")
    _finish(figure, title, path)


def _finish(figure: Figure, title: str, path: Path) -> None:
    if title:
        figure.suptitle(drawable(title).replace("$", r"\$"), fontsize=10, family=families())
    save(figure, path)
