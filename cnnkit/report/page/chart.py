"""Line charts as plain numbers, which a template draws in SVG: sharp at any size, in the light or dark colours of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.ticker import MaxNLocator

from cnnkit.report.pictures.confidence_scale import stretched, stretched_ticks

WIDTH, HEIGHT = 400, 250  # units of the drawing; a unit is about a pixel on a phone, where text of 12 units must be legible
LEFT, RIGHT, TOP, BOTTOM = 50, 22, 12, 38  # margins for the axes, in units of the drawing
MAX_DOTS = 40  # the longest line that has a dot at each point; more dots would touch
_X_GAP, _Y_GAP = 46, 18  # units between the labels of a stretched axis; "99.5 %" is 40 wide and 12 high
_MIN_WHOLE_PERCENT_STEP = 0.01  # closer ticks need a digit after the decimal point

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A line through `points` (x, y) in their order; a point that is not finite leaves a gap.

    `spans` are intervals (x, low, high), drawn as whiskers. `style`, 0 to 7, selects colour and dashes. With `joined` False only dots
    are drawn.
    """

    name: str
    points: Sequence[Point]
    style: int = 0
    spans: Sequence[tuple[float, float, float]] = ()
    joined: bool = True


@dataclass(frozen=True)
class Axis:
    """One axis: its label, whether it shows shares as percent, and its ends if they are fixed."""

    label: str
    percent: bool = False
    low: float | None = None
    high: float | None = None
    whole: bool = False  # epochs: no ticks between whole numbers
    stretched: bool = False  # probabilities, stretched near 100 %, from `low` to 1


@dataclass(frozen=True)
class Stroke:
    """A line in units of the drawing: SVG path data, dots (x, y) and whiskers (x, y of low, y of high)."""

    name: str
    style: int
    path: str
    dots: tuple[Point, ...]
    whiskers: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Chart:
    """A chart in units of the drawing; `description` is its content in words, and `mark` is a vertical line (x, text)."""

    title: str
    description: str
    strokes: tuple[Stroke, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_label: str
    y_label: str
    mark: tuple[float, str] | None

    @property
    def frame(self) -> dict[str, int]:
        """The size of the drawing and the positions of the axes, for the template."""
        return {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "bottom": HEIGHT - BOTTOM}


def chart(lines: Sequence[Line], x: Axis, y: Axis, *, title: str, description: str, mark: tuple[float, str] | None = None) -> Chart | None:
    """Return the layout of `lines` on the axes `x` and `y`; None if no point is finite."""
    points = [point for line in lines for point in line.points if _finite(point)]
    if not points:
        return None
    ends = [*(value for _, value in points), *(value for line in lines for span in line.spans for value in span[1:])]
    x_ticks, to_x = (_stretched_scale if x.stretched else _scale)([point[0] for point in points], x, LEFT, WIDTH - RIGHT)
    y_ticks, to_y = (_stretched_scale if y.stretched else _scale)(
        [value for value in ends if math.isfinite(value)], y, HEIGHT - BOTTOM, TOP
    )
    return Chart(
        title=title,
        description=description,
        strokes=tuple(_stroke(line, to_x, to_y) for line in lines if any(map(_finite, line.points))),
        x_ticks=tuple((round(to_x(value), 1), label) for value, label in x_ticks),
        y_ticks=tuple((round(to_y(value), 1), label) for value, label in y_ticks),
        x_label=x.label,
        y_label=y.label,
        mark=(round(to_x(mark[0]), 1), mark[1]) if mark else None,
    )


def _stroke(line: Line, to_x: Callable[[float], float], to_y: Callable[[float], float]) -> Stroke:
    drawn = [(round(to_x(px), 1), round(to_y(py), 1)) if _finite((px, py)) else None for px, py in line.points]
    path, pen = [], "M"
    for point in drawn if line.joined else ():
        if point is None:
            pen = "M"
            continue
        path.append(f"{pen}{point[0]:g} {point[1]:g}")
        pen = "L"
    dots = tuple(point for point in drawn if point) if len(drawn) <= MAX_DOTS or not line.joined else ()
    whiskers = tuple((round(to_x(at), 1), round(to_y(low), 1), round(to_y(high), 1)) for at, low, high in line.spans)
    return Stroke(line.name, line.style, "".join(path), dots, whiskers)


def _scale(values: Sequence[float], axis: Axis, start: float, end: float) -> tuple[list[tuple[float, str]], Callable[[float], float]]:
    """Return the ticks (value, label) of an axis and the map from its values to the drawing."""
    low = min(values) if axis.low is None else axis.low
    high = max(values) if axis.high is None else axis.high
    if low == high:
        low, high = low - 0.5, high + 0.5
    found = [float(tick) for tick in MaxNLocator(nbins=5, integer=axis.whole, min_n_ticks=1).tick_values(low, high)]
    if axis.whole:  # the axis ends at the first and the last epoch
        found = [tick for tick in found if low <= tick <= high]
    else:
        low, high = (low if axis.low is not None else found[0]), (high if axis.high is not None else found[-1])
        found = [tick for tick in found if low <= tick <= high]
    step = min((after - before for before, after in pairwise(found)), default=1.0)
    label = (lambda tick: f"{100 * tick:.{0 if step >= _MIN_WHOLE_PERCENT_STEP else 1}f} %") if axis.percent else (lambda tick: f"{tick:g}")
    span = high - low
    return [(tick, label(tick)) for tick in found], lambda value: start + (end - start) * (value - low) / span


def _stretched_scale(
    values: Sequence[float], axis: Axis, start: float, end: float
) -> tuple[list[tuple[float, str]], Callable[[float], float]]:
    """Return the ticks of an axis of probabilities that are stretched near 100 %, and the map from probabilities to the drawing."""
    low = min(values) if axis.low is None else axis.low
    ends = stretched([low, 1.0])
    ticks = stretched_ticks(low, (_X_GAP if start < end else _Y_GAP) / abs(end - start))
    return [
        (tick, f"{100 * tick:g} %") for tick in ticks
    ], lambda value: start + (end - start) * float(stretched(value) - ends[0]) / float(ends[1] - ends[0])


def _finite(point: Point) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])
