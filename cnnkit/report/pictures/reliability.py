"""The reliability diagram: accuracy over confidence, without and with the temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cnnkit.files import whole_file
from cnnkit.metrics.calibration import ReliabilityBin
from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.temperature_effect import TemperatureEffect
from cnnkit.report.terminal.numbers import share_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 120
_BEFORE_COLOUR, _AFTER_COLOUR, _IDEAL_COLOUR = "#d62728", "#1f77b4", "#555555"
_AXIS_MARGIN = 0.03  # beyond 0 and 1


def plot_reliability(effect: TemperatureEffect, path: Path) -> None:
    """Write the reliability diagram to `path` (PNG): without and with the temperature, or one panel if the temperature is 1.

    A point is a bin of `expected_calibration_error`: mean confidence on the x axis, accuracy with its 95 % interval on the y axis.
    A dotted line connects the point with the diagonal; the ECE is the mean length of these lines. The lower panel is a histogram of the
    confidence.
    """
    panels = [("probabilities as given", effect.after, _AFTER_COLOUR)]
    if effect.change != "none":
        with_it = f"with temperature {effect.temperature:.2f}"
        panels = [("without temperature", effect.before, _BEFORE_COLOUR), (with_it, effect.after, _AFTER_COLOUR)]
    figure = Figure(figsize=(1.0 + 4.5 * len(panels), 5.8), dpi=_DPI, layout="constrained")
    grid = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1))
    for column, (name, measured, colour) in enumerate(panels):
        upper, lower = grid[0, column], grid[1, column]
        upper.set_title(f"{name}\n{_error(measured.ece)}", fontsize=10)
        _points(upper, measured.bins, colour)
        edges = np.linspace(0, 1, len(measured.histogram) + 1)
        lower.bar(edges[:-1], measured.histogram, width=np.diff(edges), align="edge", color=colour, edgecolor="white")
        lower.set_xlabel("confidence (probability of the predicted class)")
    grid[0, 0].set_xlim(-_AXIS_MARGIN, 1 + _AXIS_MARGIN)
    grid[0, 0].xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    grid[0, 0].set_ylabel("accuracy")
    grid[1, 0].set_ylabel("images (log scale)")
    grid[1, 0].set_yscale("log")
    grid[1, 0].set_ylim(bottom=0.7)  # so that a bar of one image shows
    with whole_file(path) as part, part.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})


def _error(ece: Estimate) -> str:
    return "ECE: too few images" if math.isnan(ece.value) else f"ECE {share_text(ece)}"


def _points(axes: Axes, bins: Sequence[ReliabilityBin], colour: str) -> None:
    axes.set_ylim(-_AXIS_MARGIN, 1 + _AXIS_MARGIN)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.grid(alpha=0.3)
    if not bins:
        return
    confidence = np.array([each.confidence for each in bins])
    accuracy = np.array([each.accuracy.value for each in bins])
    ends = np.array([(each.accuracy.low, each.accuracy.high) for each in bins])
    axes.plot([0, 1], [0, 1], color=_IDEAL_COLOUR, linestyle="--", linewidth=1, label="calibrated")
    axes.vlines(confidence, confidence, accuracy, color=colour, linestyle=":", linewidth=1.5)
    axes.errorbar(
        confidence,
        accuracy,
        yerr=np.abs(ends - accuracy[:, None]).T,
        color=colour,
        marker="o",
        markersize=4,
        linewidth=1,
        capsize=2,
        label="bins of equal size, 95 % interval",
    )
    axes.legend(loc="upper left", fontsize=8)
