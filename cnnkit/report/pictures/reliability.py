"""The reliability diagram: accuracy over confidence, without and with the temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from cnnkit.files import whole_file
from cnnkit.metrics.calibration import ReliabilityBin
from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.temperature_effect import TemperatureEffect
from cnnkit.report.pictures.confidence_scale import is_confident, stretched, stretched_ticks, unstretched
from cnnkit.report.terminal.numbers import share_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_DPI = 120
_BEFORE_COLOUR, _AFTER_COLOUR, _IDEAL_COLOUR = "#d62728", "#1f77b4", "#555555"
_AXIS_MARGIN = 0.03  # beyond 0 and 1
_TICK_GAPS = (0.13, 0.06)  # least distances of labels on the stretched x and y axis, as shares of its length


def plot_reliability(effect: TemperatureEffect, path: Path) -> None:
    """Write the reliability diagram to `path` (PNG): without and with the temperature, or one panel if the temperature is 1.

    A point is a bin of `expected_calibration_error`: mean confidence on the x axis, accuracy with its 95 % interval on the y axis.
    A dotted line connects the point with the diagonal; on plain axes the ECE is the mean length of these lines. The lower panel is
    a histogram of the confidence.

    If most images have a confidence near 100 %, both axes stretch the probabilities there (`stretched`), so that the points stand
    apart and the diagonal stays straight. The axes then begin at the lowest point or interval, and the lower panel shows the share of
    images up to each confidence, because a histogram would be one bar.
    """
    panels = [("probabilities as given", effect.after, _AFTER_COLOUR)]
    if effect.change != "none":
        with_it = f"with temperature {effect.temperature:.2f}"
        panels = [("without temperature", effect.before, _BEFORE_COLOUR), (with_it, effect.after, _AFTER_COLOUR)]
    confident = is_confident(effect.after.bins)
    figure = Figure(figsize=(1.0 + 4.5 * len(panels), 5.8), dpi=_DPI, layout="constrained")
    grid = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1))
    for column, (name, measured, colour) in enumerate(panels):
        upper, lower = grid[0, column], grid[1, column]
        upper.set_title(f"{name}\n{_error(measured.ece)}", fontsize=10)
        _points(upper, measured.bins, colour)
        if confident:
            _cumulative(lower, measured.bins, colour)
        else:
            _histogram(lower, measured.histogram, colour)
        lower.set_xlabel("confidence (probability of the predicted class)")
    grid[0, 0].set_ylabel("accuracy")
    grid[1, 0].set_ylabel("images up to here" if confident else "images (log scale)")
    if confident:
        _stretch(grid, [one for _, measured, _ in panels for one in measured.bins])
    else:
        _whole_range(grid)
    figure.legend(*grid[0, -1].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    with whole_file(path) as part, part.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})


def _histogram(axes: Axes, counts: Sequence[int], colour: str) -> None:
    edges = np.linspace(0, 1, len(counts) + 1)
    axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=colour, edgecolor="white")
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)  # so that a bar of one image shows


def _cumulative(axes: Axes, bins: Sequence[ReliabilityBin], colour: str) -> None:
    """Draw the share of images up to each confidence, through the upper ends of the bins."""
    counts = np.cumsum([0, *(one.count for one in bins)])
    axes.plot([bins[0].low, *(one.high for one in bins)], counts / counts[-1], color=colour, marker=".")
    axes.set_ylim(-_AXIS_MARGIN, 1 + _AXIS_MARGIN)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.grid(alpha=0.3)


def _whole_range(grid: NDArray[np.object_]) -> None:
    """Show the plain axes from 0 to 100 %."""
    grid[0, 0].set_xlim(-_AXIS_MARGIN, 1 + _AXIS_MARGIN)
    grid[0, 0].set_ylim(-_AXIS_MARGIN, 1 + _AXIS_MARGIN)
    for axis in (grid[0, 0].xaxis, grid[0, 0].yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def _stretch(grid: NDArray[np.object_], bins: Sequence[ReliabilityBin]) -> None:
    """Stretch the axes near 100 %, from the lowest value of the `bins` upwards, with one scale for confidence and accuracy."""
    low = min(min(one.confidence, one.low, one.accuracy.low) for one in bins)
    ends = stretched([low, 1.0])
    margin = _AXIS_MARGIN * (ends[1] - ends[0])
    limits = unstretched([ends[0] - margin, ends[1] + margin])
    for upper, lower in grid.T:
        for axes in (upper, lower):
            axes.set_xscale("function", functions=(stretched, unstretched))
        upper.set_yscale("function", functions=(stretched, unstretched))
        for axis, gap in ((upper.xaxis, _TICK_GAPS[0]), (lower.xaxis, _TICK_GAPS[0]), (upper.yaxis, _TICK_GAPS[1])):
            ticks = stretched_ticks(low, gap)
            axis.set_ticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
            axis.set_minor_locator(NullLocator())
    grid[0, 0].set_xlim(*limits)
    grid[0, 0].set_ylim(*limits)
    grid[0, 0].set_ylabel("accuracy (both axes stretched near 100 %)")


def _error(ece: Estimate) -> str:
    return "ECE: too few images" if math.isnan(ece.value) else f"ECE {share_text(ece)}"


def _points(axes: Axes, bins: Sequence[ReliabilityBin], colour: str) -> None:
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
