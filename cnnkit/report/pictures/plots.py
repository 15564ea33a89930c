"""Training curves as PNG files, and the writer of all figures, which uses no pyplot and so no window and no global state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cnnkit.errors import DataError
from cnnkit.files import whole_file

if TYPE_CHECKING:
    from cnnkit.run_dir import HistoryRow

DPI = 120
_MAX_MARKED_EPOCHS = 40  # with a dot each
_TRAIN_COLOUR, _VAL_COLOUR, _BEST_COLOUR = "#1f77b4", "#d62728", "#555555"


def plot_curves(history: Sequence[HistoryRow], path: Path) -> None:
    """Write loss and accuracy of train and val over the epochs to `path` (PNG), with the last best epoch.

    The line of val connects the evaluated epochs. Raises `DataError` if there is no epoch.
    """
    if not history:
        raise DataError(f"{path}: no epoch to plot, because the training stopped before the end of its first epoch")
    epochs = [float(row.epoch) for row in history]
    best = [float(row.epoch) for row in history if row.is_best]
    figure = Figure(figsize=(10.0, 4.0), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, quantity, label in ((left, "loss", "loss (nats)"), (right, "accuracy", "accuracy")):
        marker = "o" if len(epochs) <= _MAX_MARKED_EPOCHS else ""
        for split, color, style in (("train", _TRAIN_COLOUR, "-"), ("val", _VAL_COLOUR, "--")):
            points = [(row.epoch, value) for row in history if (value := getattr(row, f"{split}_{quantity}")) is not None]
            x, y = [epoch for epoch, _ in points], [value for _, value in points]
            axes.plot(x, y, color=color, marker=marker, markersize=4, linestyle=style, label=split)
        if best:
            axes.axvline(best[-1], color=_BEST_COLOUR, linestyle=":", label=f"best: epoch {best[-1]:.0f}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(set(epochs)) == 1:
            axes.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)
            axes.set_ylim(bottom=0.0)  # two points alone would give a scale of thousandths
        axes.grid(alpha=0.3)
        axes.legend()
    right.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG so that `path` is either the old file or the complete new file."""
    with whole_file(path) as part, part.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
