"""The risk-coverage curve as a PNG: the error rate among the surest images over their share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cnnkit.files import whole_file
from cnnkit.metrics.abstention import risk_coverage_curve
from cnnkit.metrics.selective import SelectiveReport
from cnnkit.metrics.units import proportion
from cnnkit.report.terminal.numbers import images_text

_DPI = 120
_NUM_CURVE_POINTS = 400  # about the width of the curve in pixels
_NUM_CURVE_POINTS_OF_UNITS = 60  # an interval of units takes 20 ms for 100,000 images
_MIN_IMAGES = 20  # the error rate of fewer images varies too much


def plot_risk_coverage(report: SelectiveReport, split: str, path: Path) -> None:
    """Write the risk over the coverage with its 95 % band, and the model's threshold if it has one, to `path` (PNG)."""
    coverage, risk = risk_coverage_curve(report.top, report.wrong)
    n = len(coverage)
    points = _NUM_CURVE_POINTS if report.units.are_single else _NUM_CURVE_POINTS_OF_UNITS
    ranks = np.unique(np.linspace(min(n, _MIN_IMAGES), n, points).round().astype(int))
    surest = np.argsort(-report.top, kind="stable")
    bands = [proportion(report.wrong[surest[:rank]], report.units.of_rows(surest[:rank])) for rank in ranks]
    figure = Figure(figsize=(7.0, 4.5), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(
        coverage[ranks - 1], [band.low for band in bands], [band.high for band in bands], alpha=0.2, color="#1f77b4", label="95 % interval"
    )
    axes.plot(
        coverage[ranks - 1],
        risk[ranks - 1],
        color="#1f77b4",
        marker="o" if len(ranks) == 1 else "",
        label=f"{split}, {images_text(n, report.units.count)}",
    )
    if report.abstention and report.abstention_outcome:
        rule, here = report.abstention, report.abstention_outcome
        axes.axhline(rule.risk, color="#555555", linestyle=":", label=f"guaranteed risk: {100 * rule.risk:g} %")
        if here.accepted:
            axes.plot(
                [here.coverage],
                [here.risk.value],
                color="#d62728",
                marker="D",
                linestyle="",
                label=f"threshold {rule.threshold:.3f}",
                zorder=3,
            )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(0.01, 1.15 * max(float(risk[ranks - 1].max()), report.abstention.risk if report.abstention else 0.0)))
    axes.set_xlabel("coverage: share of accepted images, the surest first")
    axes.set_ylabel("risk: share of wrong predictions among them")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    with whole_file(path) as part, part.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
