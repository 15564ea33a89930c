"""The confusion matrix as a PNG file: with numbers, or for many classes as colours in an order that shows groups of confused classes."""

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

from cnnkit.metrics.confusion import SHARE_OF, Normalize, confusion_order, most_confused_ranges, normalized
from cnnkit.metrics.counts import Counts
from cnnkit.metrics.scores import Scores
from cnnkit.report.pictures.fonts import drawable, families, middle_cut, plot_labels
from cnnkit.report.pictures.plots import DPI, save
from cnnkit.report.terminal.numbers import images_text, share_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import FigureBase
    from matplotlib.image import AxesImage

    from cnnkit.metrics.classification import ClassificationReport

_MAX_NUMBERED_CLASSES = 30  # the counts of more classes do not fit their cells
_MAX_LARGE_CLASSES = 6  # whose cells have room for large numbers
_MAX_LABELS = 120  # more names of 6 points would touch on an axis
_MIN_MATRIX_INCHES = 13.0  # of a matrix without numbers
_MIN_CELL_PIXELS = 2
_TITLE_POINTS, _LARGE_TITLE_POINTS = 11, 16
_POINTS_PER_INCH, _WIDTH_OF_LETTER = 72, 0.62  # the mean width of a letter as a share of its size, rounded up
_MAX_DETAILS, _DETAIL_CLASSES = 6, 15  # enlarged parts, if not every class has a label, and the classes in each part

# Empty cells are white, and one image in a thousand must differ from them.
_LIGHT_BLUES = LinearSegmentedColormap.from_list("blues from light", colormaps["Blues"](np.linspace(0.3, 1.0, 256)))


def confusion_title(model: str, report: ClassificationReport, views: str = "") -> list[str]:
    """Return the lines above a matrix: the name of the `model`, the images, the accuracy with its interval, and the `views` if any."""
    split = "" if report.split == "all" else report.split
    lines = [f"{model}: {images_text(report.n, report.units, split)}", f"accuracy {share_text(report.accuracy)}, 95 % interval"]
    return [*lines, views] if views else lines


def plot_confusion(table: Counts, classes: Sequence[str], path: Path, normalize: Normalize = "none", *, title: Sequence[str] = ()) -> None:
    """Write a (K, K) table of counts to `path` (PNG): rows true, columns predicted, coloured by the share of the row.

    The lines of `title` stand above it, cut in the middle if they are long.

    With `normalize` true, pred or all, numbers and colours are shares of the row, the column or all images (see
    `cnnkit.metrics.confusion`). The cells of up to 30 classes have numbers. With more classes, confused classes are neighbours, so that
    groups show as blocks. With more than 120 classes, only one class in n has a label. The parts with the most mistakes are then enlarged
    below with all labels. The colour scale is a square root, so that a confusion of a few percent shows. A name that no installed font
    can write becomes ``class`` and its index.
    """
    share_of = "true" if normalize == "none" else normalize
    shares = normalized(table, share_of)
    if len(classes) <= _MAX_NUMBERED_CLASSES:
        figure = _with_numbers(table, shares, classes, f"share of {SHARE_OF[share_of]}", normalize)
    else:
        figure = _clustered(table, shares, classes, f"share of {SHARE_OF[share_of]}")
    if title:
        points = _TITLE_POINTS if len(classes) <= _MAX_NUMBERED_CLASSES else _LARGE_TITLE_POINTS
        letters = int(figure.get_figwidth() * _POINTS_PER_INCH / (_WIDTH_OF_LETTER * points))
        shown = "\n".join(middle_cut(drawable(line), letters) for line in title)
        figure.suptitle(shown, fontsize=points, family=list(families()), parse_math=False)
    save(figure, path)


def _with_numbers(table: Counts, shares: Scores, classes: Sequence[str], meaning: str, normalize: Normalize) -> Figure:
    names = plot_labels(classes)
    few = len(classes) <= _MAX_LARGE_CLASSES
    points = 11 if few else 9
    room = max(map(len, names)) * points * _WIDTH_OF_LETTER / _POINTS_PER_INCH  # of the longest name, so that it leaves the matrix its size
    inches = 3.4 + 0.36 * len(classes) + room
    figure = Figure(figsize=(inches + 1.0, inches), dpi=DPI, layout="compressed")
    axes = figure.add_subplot()
    image = _draw(axes, shares, colormaps["Blues"])
    _label(axes, names, range(len(classes)), points)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    size = 9 if normalize == "none" and table.max() < 1000 else 7  # noqa: PLR2004 - four digits at 9 points are wider than a cell
    size = 14 if few else size
    for row, column in zip(*np.nonzero(table), strict=True):
        share = shares[row, column]
        text = str(table[row, column]) if normalize == "none" else f"{100 * share:.1f}"
        colour = "white" if share > 0.3 else "black"  # noqa: PLR2004 - Blues is dark above
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    _scale(figure, image, [axes], meaning)
    return figure


def _clustered(table: Counts, shares: Scores, classes: Sequence[str], meaning: str) -> Figure:
    count = len(classes)
    order = confusion_order(table)
    shares = shares[np.ix_(order, order)]
    names = [plot_labels(classes)[index] for index in order]
    inches = max(_MIN_MATRIX_INCHES, count * _MIN_CELL_PIXELS / DPI)
    step = math.ceil(count / _MAX_LABELS)
    details = most_confused_ranges(table[np.ix_(order, order)], _DETAIL_CLASSES, _MAX_DETAILS) if step > 1 else []
    below = inches / 3 * math.ceil(len(details) / 3)
    layout = "constrained" if details else "compressed"  # "compressed" keeps the names of axes inside, but has no subfigures
    figure = Figure(figsize=(inches + 3.0, inches + below + 1.8), dpi=DPI, layout=layout)
    halves = figure.subfigures(2, 1, height_ratios=[inches + 1.8, below], squeeze=False)[:, 0] if details else None
    whole, parts = (figure, None) if halves is None else (halves[0], halves[1])
    axes = whole.add_subplot()
    image = _draw(axes, shares, _LIGHT_BLUES)
    _label(axes, names[::step], range(0, count, step), max(6, min(10, int(50 * inches / count))))
    named = "" if step == 1 else f"; one class in {step} has a label"
    axes.set_xlabel(f"predicted class, in the same order{named}", fontsize=14)
    if halves is None:
        axes.set_ylabel("true class; confused classes are neighbours", fontsize=14)
    else:  # "constrained" leaves no room for a name to the left of long labels
        axes.set_title("rows: true class; confused classes are neighbours", loc="left", fontsize=14)
    _scale(whole, image, [axes], meaning)
    if parts is not None:
        parts.suptitle("Enlarged parts with the most mistakes", fontsize=14)
        for start, small in zip(details, parts.subplots(math.ceil(len(details) / 3), 3, squeeze=False).flat, strict=False):
            part = slice(start, start + _DETAIL_CLASSES)
            _draw(small, shares[part, part], _LIGHT_BLUES)
            _label(small, names[part], range(len(names[part])), 7)
            axes.add_patch(Rectangle((start - 0.5, start - 0.5), _DETAIL_CLASSES, _DETAIL_CLASSES, fill=False, edgecolor="#d62728"))
    return figure


def _draw(axes: Axes, shares: Scores, colours: Colormap) -> AxesImage:
    return axes.imshow(np.ma.masked_equal(shares, 0), cmap=colours, norm=PowerNorm(0.5, vmin=0.0, vmax=1.0), interpolation="nearest")


def _label(axes: Axes, names: Sequence[str], positions: Sequence[int], size: int) -> None:
    axes.set_xticks(positions, names, rotation=90, fontsize=size, family=families())
    axes.set_yticks(positions, names, fontsize=size, family=families())


def _scale(figure: FigureBase, image: AxesImage, axes: Sequence[Axes], meaning: str) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.8, fraction=0.05, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.set_label(meaning, fontsize=12)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    bar.ax.minorticks_off()
