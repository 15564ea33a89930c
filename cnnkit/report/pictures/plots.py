"""Curves as PNG files, and how any figure becomes one. `Figure` without pyplot: no window, no global state, safe in a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cnnkit.errors import DataError
from cnnkit.files import whole_file

DPI = 120
_MOST_MARKED = 40  # epochs drawn with a dot each
_TRAIN, _VAL, _BEST = "#1f77b4", "#d62728", "#555555"


def plot_curves(history: Sequence[Mapping[str, Any] | object], path: Path) -> None:
    """Write loss and accuracy of train and val over the epochs to `path` (PNG), the last best epoch marked.

    `history` holds one row per epoch with the columns of history.csv, as mappings (text values too) or objects.
    Raises `DataError` if there is no epoch.
    """
    if not history:
        raise DataError(f"no epoch to plot in {path}: the training stopped before its first epoch ended")
    epochs = _column(history, "epoch")
    best = [epoch for epoch, is_best in zip(epochs, (_field(row, "is_best") for row in history), strict=True) if _is_true(is_best)]
    figure = Figure(figsize=(10.0, 4.0), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, quantity, label in ((left, "loss", "loss (nats)"), (right, "accuracy", "accuracy")):
        marker = "o" if len(epochs) <= _MOST_MARKED else ""
        for side, color, style in (("train", _TRAIN, "-"), ("val", _VAL, "--")):
            rows = [row for row in history if _field(row, f"{side}_{quantity}") not in {None, ""}]  # not every epoch is evaluated
            values = _column(rows, f"{side}_{quantity}")
            axes.plot(_column(rows, "epoch"), values, color=color, marker=marker, markersize=4, linestyle=style, label=side)
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
    save(figure, path)


def _column(history: Sequence[Mapping[str, Any] | object], name: str) -> list[float]:
    return [float(_field(row, name)) for row in history]


def _field(row: Mapping[str, Any] | object, name: str) -> Any:
    return row[name] if isinstance(row, Mapping) else getattr(row, name)


def _is_true(value: object) -> bool:
    """Read a boolean, or its text in a CSV file."""
    return str(value).strip().lower() in {"true", "1"}


def save(figure: Figure, path: Path) -> None:
    """Write a PNG so that `path` is either the old file or the whole new one."""
    with whole_file(path) as part, part.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
