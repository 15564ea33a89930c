"""The forecast for more training images, as a table and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cnnkit.files import whole_file
from cnnkit.metrics.class_scores import MIN_CLASS_IMAGES
from cnnkit.metrics.growth import MAX_GROWTH_FACTOR, Forecast, Growth
from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.proportion import wilson
from cnnkit.report.pictures.fonts import drawable, families, plot_labels
from cnnkit.report.terminal.console import escaped
from cnnkit.report.terminal.numbers import UNDEFINED, gain_cells, percent, share_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 120
_MEASURED_COLOUR, _EXPECTED_COLOUR = "#1f77b4", "#d62728"
_MAX_ROWS = 50  # in the table
_MAX_DRAWN_CLASSES = 25  # in the picture
_NUM_CURVE_POINTS = 60


def forecast_table(outlook: Forecast) -> RenderableType:
    """Return a row for each class, the largest gain first: images, recall now, expected recall, gain and conclusion."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("class", overflow="fold")
    table.add_column("images", justify="right", no_wrap=True)
    for head in ("recall now %", f"with +{outlook.added} %", "gain"):
        table.add_column(head, justify="right")
    table.add_column("", no_wrap=True)
    rows = by_gain(outlook.per_class)
    for row in rows[:_MAX_ROWS]:
        few = row.points.support < MIN_CLASS_IMAGES
        table.add_row(Text(escaped(row.name)), *_cells(row), f"{row.conclusion}{', few' if few else ''}")
    table.add_section()
    table.add_row("all: accuracy", *_cells(outlook.overall), outlook.overall.conclusion, style="bold")
    notes = [
        "Recall now is measured on val. The expected recall and the gain, in points, come from the curve, which also fits smaller sizes.",
        f"all: with +{outlook.added} images of every class.",
    ]
    if len(rows) > _MAX_ROWS:
        notes.append(f"The {_MAX_ROWS} classes of largest gain; all {len(rows)} are in learning-curve.json.")
    if any(row.points.support < MIN_CLASS_IMAGES for row in rows):
        notes.append(f"few: under {MIN_CLASS_IMAGES} validation images.")
    if any(row.curve and row.images + row.added > MAX_GROWTH_FACTOR * row.images for row in rows):
        notes.append(f"Cannot tell beyond {MAX_GROWTH_FACTOR} times the images of a class: try a smaller --add.")
    return Group(table, *(Text(note, style="dim") for note in notes))


def by_gain(rows: Sequence[Growth]) -> list[Growth]:
    """Return `rows` sorted by expected gain, the largest first; rows without a gain come last."""
    return sorted(rows, key=lambda row: -math.inf if math.isnan(row.gain.value) else row.gain.value, reverse=True)


def plot_forecast(outlook: Forecast, path: Path, *, title: str = "") -> None:
    """Write a PNG with two plots to `path`: accuracy over training images with its band, and the expected gain of each class.

    The plot has up to 25 classes, by the largest expected gain. Bands and bars are 95 %.
    """
    rows = [row for row in by_gain(outlook.per_class) if row.curve][:_MAX_DRAWN_CLASSES]
    figure = Figure(figsize=(11.0, max(4.5, 1.6 + 0.3 * len(rows))), dpi=_DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_curve(left, outlook.overall)
    _draw_classes(right, rows, outlook.added)
    if title:
        figure.suptitle(drawable(title).replace("$", r"\$"), fontsize=10, family=families())
    with whole_file(path) as part, part.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})


def _draw_curve(axes: Axes, overall: Growth) -> None:
    points, curve = overall.points, overall.curve
    measured = [wilson(float(hits), points.support) for hits in points.hits]
    axes.set_xscale("log")
    values = [each.value for each in measured]
    spans = [[each.value - each.low for each in measured], [each.high - each.value for each in measured]]
    axes.errorbar(points.images, values, yerr=spans, fmt="o", color=_MEASURED_COLOUR, markersize=4, capsize=2, label="measured on val")
    if curve is not None:
        whole = points.images[-1]
        numbers = np.geomspace(points.images[0], whole + overall.added, _NUM_CURVE_POINTS)
        drawn = [curve.at(float(number)) for number in numbers]
        axes.plot(numbers, [each.value for each in drawn], color=_EXPECTED_COLOUR, linewidth=1.5, label="fitted: error = a + b n$^{-c}$")
        axes.fill_between(
            numbers,
            [each.low for each in drawn],
            [each.high for each in drawn],
            color=_EXPECTED_COLOUR,
            alpha=0.15,
            linewidth=0,
            label="95 % band",
        )
        axes.axvline(float(whole), color="#555555", linestyle=":", label="images now")
    axes.set_xticks(points.images, [f"{images:,.0f}" for images in points.images])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("training images")
    axes.set_ylabel("accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.grid(alpha=0.3)
    _legend(axes)


def _draw_classes(axes: Axes, rows: Sequence[Growth], added: int) -> None:
    positions = np.arange(len(rows))
    gains = [row.gain for row in rows]
    values = [100 * gain.value for gain in gains]
    spans = [[100 * (gain.value - gain.low) for gain in gains], [100 * (gain.high - gain.value) for gain in gains]]
    colour, label = _EXPECTED_COLOUR, "expected gain and 95 % band"
    axes.errorbar(values, positions, xerr=spans, fmt="o", color=colour, markersize=4, capsize=2, label=label)
    axes.axvline(0.0, color="#555555", linestyle=":")
    names = plot_labels([row.name for row in rows])
    axes.set_yticks(positions, [f"{name} ({percent(row.now.value)} %)" for name, row in zip(names, rows, strict=True)], family=families())
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_ylabel("class (recall now)")
    axes.set_xlabel(f"gain in points of recall from {added} more images")
    axes.grid(alpha=0.3, axis="x")
    _legend(axes)


def _legend(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=8)


def _cells(row: Growth) -> tuple[str, str, str, str]:
    return f"{row.images:,}", _with_interval(row.now), _with_interval(row.later), _with_interval(row.gain, sign="+")


def _with_interval(estimate: Estimate, sign: str = "") -> str:
    if math.isnan(estimate.value):
        return UNDEFINED
    return " ".join(gain_cells(estimate, scale=100, digits=1)) if sign else share_text(estimate, unit="")
