"""The confusion matrix as a PNG file: numbers while they fit, then colours in an order that shows who is taken for whom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from cnnkit.metrics.confusion import SHARE_OF, Normalize, confusion_order, crowded, normalized
from cnnkit.metrics.counts import Counts
from cnnkit.metrics.scores import Scores
from cnnkit.report.pictures.fonts import families, plot_labels
from cnnkit.report.pictures.plots import DPI, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import FigureBase
    from matplotlib.image import AxesImage

_MOST_NUMBERED = 30  # classes: beyond, a count no longer fits its cell
_MOST_LABELS = 120  # of an axis: beyond, names of 6 points would touch
_SIDE = 13.0  # inches of a matrix without numbers, at least
_CELL = 2  # px, at least
_DETAILS, _DETAIL = 6, 15  # parts that are enlarged where not every class is named, and the classes in each

# Where most cells are empty these stay white, and one image in a thousand must still be seen beside them.
_FROM_LIGHT = LinearSegmentedColormap.from_list("blues from light", colormaps["Blues"](np.linspace(0.3, 1.0, 256)))


def plot_confusion(table: Counts, classes: Sequence[str], path: Path, normalize: Normalize = "none") -> None:
    """Write a (K, K) table of counts to `path` (PNG): rows true, columns predicted, coloured by the share of the row.

    With `normalize` true, pred or all the numbers are percent of the row, the column or all images, and so is the colour (see
    `cnnkit.metrics.confusion`). Up to 30 classes the cells carry their numbers. Of more, classes that are taken for each other stand
    side by side, so that groups of them show as blocks. Beyond 120 only one class in n is named, and the parts with the most mistakes
    are enlarged below, with every name. The colour scale is a square root, so that a confusion of a few percent shows. A name that
    no installed font can write appears as ``class`` and its index.
    """
    share_of = "true" if normalize == "none" else normalize
    shares = normalized(table, share_of)
    if len(classes) <= _MOST_NUMBERED:
        figure = _with_numbers(table, shares, classes, f"share of {SHARE_OF[share_of]}", normalize)
    else:
        figure = _clustered(table, shares, classes, f"share of {SHARE_OF[share_of]}")
    save(figure, path)


def _with_numbers(table: Counts, shares: Scores, classes: Sequence[str], meaning: str, normalize: Normalize) -> Figure:
    side = 4.0 + 0.36 * len(classes)
    figure = Figure(figsize=(side + 1.0, side), dpi=DPI, layout="compressed")
    axes = figure.add_subplot()
    image = _draw(axes, shares, colormaps["Blues"])
    _name(axes, plot_labels(classes), range(len(classes)), 9)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    size = 9 if normalize == "none" and table.max() < 1000 else 7  # noqa: PLR2004 - four digits are wider than a cell at 9 points
    for row, column in zip(*np.nonzero(table), strict=True):
        share = shares[row, column]
        text = str(table[row, column]) if normalize == "none" else f"{100 * share:.1f}"
        colour = "white" if share > 0.3 else "black"  # noqa: PLR2004 - where Blues turns dark
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    _scale(figure, image, [axes], meaning)
    return figure


def _clustered(table: Counts, shares: Scores, classes: Sequence[str], meaning: str) -> Figure:
    count = len(classes)
    order = confusion_order(table)
    shares = shares[np.ix_(order, order)]
    names = [plot_labels(classes)[place] for place in order]
    side = max(_SIDE, count * _CELL / DPI)
    step = math.ceil(count / _MOST_LABELS)
    details = crowded(table[np.ix_(order, order)], _DETAIL, _DETAILS) if step > 1 else []
    below = side / 3 * math.ceil(len(details) / 3)
    layout = "constrained" if details else "compressed"  # the latter leaves the names of axes inside, but knows no subfigures
    figure = Figure(figsize=(side + 3.0, side + below + 1.8), dpi=DPI, layout=layout)
    halves = figure.subfigures(2, 1, height_ratios=[side + 1.8, below], squeeze=False)[:, 0] if details else None
    whole, parts = (figure, None) if halves is None else (halves[0], halves[1])
    axes = whole.add_subplot()
    image = _draw(axes, shares, _FROM_LIGHT)
    _name(axes, names[::step], range(0, count, step), max(6, min(10, int(50 * side / count))))
    named = "" if step == 1 else f"; one class in {step} is named"
    axes.set_xlabel(f"predicted class, in the same order{named}", fontsize=14)
    axes.set_ylabel("true class; classes that are taken for each other stand side by side", fontsize=14)
    _scale(whole, image, [axes], meaning)
    if parts is not None:
        parts.suptitle("Enlarged: where most mistakes are", fontsize=14)
        for start, small in zip(details, parts.subplots(math.ceil(len(details) / 3), 3, squeeze=False).flat, strict=False):
            part = slice(start, start + _DETAIL)
            _draw(small, shares[part, part], _FROM_LIGHT)
            _name(small, names[part], range(len(names[part])), 7)
            axes.add_patch(Rectangle((start - 0.5, start - 0.5), _DETAIL, _DETAIL, fill=False, edgecolor="#d62728"))
    return figure


def _draw(axes: Axes, shares: Scores, colours: Colormap) -> AxesImage:
    return axes.imshow(np.ma.masked_equal(shares, 0), cmap=colours, norm=PowerNorm(0.5, vmin=0.0, vmax=1.0), interpolation="nearest")


def _name(axes: Axes, names: Sequence[str], places: Sequence[int], size: int) -> None:
    axes.set_xticks(places, names, rotation=90, fontsize=size, family=families())
    axes.set_yticks(places, names, fontsize=size, family=families())


def _scale(figure: FigureBase, image: AxesImage, axes: Sequence[Axes], meaning: str) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.8, fraction=0.05, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.set_label(meaning, fontsize=12)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    bar.ax.minorticks_off()
