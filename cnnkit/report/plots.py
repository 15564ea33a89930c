"""Curves and confusion matrix as PNG files. `Figure` without pyplot: no window, no global state, safe in a server."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cnnkit.errors import DataError
from cnnkit.files import whole_file
from cnnkit.metrics.counts import Counts
from cnnkit.report.fonts import families, plot_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 120
_MOST_NUMBERED = 30  # classes: beyond, a count no longer fits its cell
_MOST_LABELS = 60  # of an axis: beyond, labels of 7 points would touch
_MOST_MARKED = 40  # epochs drawn with a dot each
_TRAIN, _VAL, _BEST = "#1f77b4", "#d62728", "#555555"


def plot_confusion(table: Counts, classes: Sequence[str], path: Path) -> None:
    """Write a (K, K) table of counts to `path` (PNG): rows true, columns predicted, coloured by the share of the row.

    Up to 30 classes the cells carry their counts; beyond 60 only one class in n is labelled. The colour scale is a square root, so
    that a confusion of a few percent shows. A name that no installed font can write appears as ``class`` and its index.
    """
    count = len(classes)
    support = table.sum(axis=1, keepdims=True)
    shares = np.divide(table, support, out=np.zeros(table.shape), where=support > 0)
    side = min(14.0, 4.0 + 0.36 * count)
    figure = Figure(figsize=(side + 1.0, side), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0.0, vmax=1.0), interpolation="nearest")
    step = math.ceil(count / _MOST_LABELS)
    size = 9 if count <= _MOST_NUMBERED else 7
    labels = plot_labels(classes)[::step]
    axes.set_xticks(range(0, count, step), labels, rotation=90, fontsize=size, family=families())
    axes.set_yticks(range(0, count, step), labels, fontsize=size, family=families())
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class" if step == 1 else f"true class (one in {step} is named)")
    if count <= _MOST_NUMBERED:
        _write_counts(axes, table, shares)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class", ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    bar.ax.minorticks_off()
    _save(figure, path)


def plot_curves(history: Sequence[Mapping[str, Any] | object], path: Path) -> None:
    """Write loss and accuracy of train and val over the epochs to `path` (PNG), the last best epoch marked.

    `history` holds one row per epoch with the columns of history.csv, as mappings (text values too) or objects.
    Raises `DataError` if there is no epoch.
    """
    if not history:
        raise DataError(f"no epoch to plot in {path}: the training stopped before its first epoch ended")
    epochs = _column(history, "epoch")
    best = [epoch for epoch, is_best in zip(epochs, (_field(row, "is_best") for row in history), strict=True) if _is_true(is_best)]
    figure = Figure(figsize=(10.0, 4.0), dpi=_DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, quantity, label in ((left, "loss", "loss (nats)"), (right, "accuracy", "accuracy")):
        marker = "o" if len(epochs) <= _MOST_MARKED else ""
        axes.plot(epochs, _column(history, f"train_{quantity}"), color=_TRAIN, marker=marker, markersize=4, label="train")
        axes.plot(epochs, _column(history, f"val_{quantity}"), color=_VAL, marker=marker, markersize=4, linestyle="--", label="val")
        if best:
            axes.axvline(best[-1], color=_BEST, linestyle=":", label=f"best: epoch {best[-1]:.0f}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(set(epochs)) == 1:
            axes.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)
            axes.set_ylim(bottom=0.0)  # two lone points would otherwise define a scale of thousandths
        axes.grid(alpha=0.3)
        axes.legend()
    right.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    _save(figure, path)


def _write_counts(axes: Axes, table: Counts, shares: np.ndarray) -> None:
    size = 9 if table.max() < 1000 else 7  # noqa: PLR2004 - four digits are wider than a cell at 9 points
    for row, column in zip(*np.nonzero(table), strict=True):
        colour = "white" if shares[row, column] > 0.3 else "black"  # noqa: PLR2004 - where Blues turns dark
        axes.text(column, row, str(table[row, column]), ha="center", va="center", fontsize=size, color=colour)


def _column(history: Sequence[Mapping[str, Any] | object], name: str) -> list[float]:
    values = [_field(row, name) for row in history]
    return [math.nan if value in {None, ""} else float(value) for value in values]


def _field(row: Mapping[str, Any] | object, name: str) -> Any:
    return row[name] if isinstance(row, Mapping) else getattr(row, name)


def _is_true(value: object) -> bool:
    """Read a boolean, or its text in a CSV file."""
    return str(value).strip().lower() in {"true", "1"}


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG so that `path` is either the old file or the whole new one."""
    with whole_file(path) as part, part.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
