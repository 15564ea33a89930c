"""The plot of a learning-rate range test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cnnkit.errors import DataError
from cnnkit.files import whole_file
from cnnkit.report.pictures.fonts import drawable, families

_DPI = 120
_RAW_COLOUR, _SMOOTHED_COLOUR, _SUGGESTED_COLOUR = "#9ec5e8", "#1f77b4", "#d62728"
_HEADROOM = 0.15  # of the height between the lowest and the first loss, free above and below
_CUT_PERCENTILE = 10  # of the batch losses; the smoothed loss matters, so lower batch losses may lie outside


def plot_range_test(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    path: Path,
    *,
    suggestion: float | None = None,
    diverged_at: float | None = None,
    title: str = "",
) -> None:
    """Write the loss (nats) over the learning rate (logarithmic) to `path` (PNG), with the suggestion.

    `rates`, `losses` and `smoothed` have one value for each update. The vertical axis ends slightly above the first smoothed loss:
    the loss of a divergence may be a thousand times larger and would flatten the curve. Raises `DataError` if there is no
    update.
    """
    if not rates:
        raise DataError(f"{path}: no update to plot, because the first loss was not finite; check the images and the architecture")
    figure = Figure(figsize=(8.0, 4.5), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.plot(rates, losses, color=_RAW_COLOUR, linewidth=1, label="loss of the batch")
    axes.plot(rates, smoothed, color=_SMOOTHED_COLOUR, linewidth=2, label="smoothed")
    if suggestion is not None:
        axes.axvline(suggestion, color=_SUGGESTED_COLOUR, linestyle="--", label=f"suggestion: {suggestion:g}")
    if diverged_at is not None:
        axes.axvline(diverged_at, color="#555555", linestyle=":", label=f"diverged at {diverged_at:.2g}")
    low, first = min(*smoothed, float(np.percentile(losses, _CUT_PERCENTILE))), smoothed[0]
    room = _HEADROOM * max(first - low, 0.1 * first, 1e-3)
    axes.set_ylim(max(0.0, low - room), first + 2 * room)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss (nats)")
    axes.grid(alpha=0.3)
    axes.legend()
    if title:
        axes.set_title(drawable(title).replace("$", r"\$"), fontsize=10, family=families())
    with whole_file(path) as part, part.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
