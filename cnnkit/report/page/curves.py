"""The curves of a training for a page, from the rows of history.csv."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnkit.report.page.chart import Axis, Chart, Line, chart

if TYPE_CHECKING:
    from cnnkit.run_dir import HistoryRow


@dataclass(frozen=True)
class Course:
    """One epoch of the page's table; an empty field of history.csv is NaN."""

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float
    images_per_second: float
    best: bool


def course(history: Sequence[HistoryRow]) -> list[Course]:
    """Return the epochs of history.csv; only the kept epoch, the last one marked as best, is marked."""
    kept = max((row.epoch for row in history if row.is_best), default=None)
    return [
        Course(
            epoch=row.epoch,
            lr=row.lr,
            train_loss=row.train_loss,
            train_accuracy=row.train_accuracy,
            val_loss=math.nan if row.val_loss is None else row.val_loss,
            val_accuracy=math.nan if row.val_accuracy is None else row.val_accuracy,
            seconds=row.seconds,
            images_per_second=row.images_per_second,
            best=row.epoch == kept,
        )
        for row in history
    ]


def curves(epochs: Sequence[Course]) -> list[Chart]:
    """Return the charts of loss and accuracy, train and val, with the kept epoch marked; empty without an epoch."""
    kept = next((epoch for epoch in epochs if epoch.best), None)
    mark = (float(kept.epoch), f"kept: epoch {kept.epoch}") if kept else None
    drawn = []
    for quantity, y in (("loss", Axis("loss (nats)")), ("accuracy", Axis("accuracy", percent=True))):
        lines = [Line(split, _points(epochs, f"{split}_{quantity}"), style) for style, split in enumerate(("train", "val"))]
        description = "; ".join([*(_ends(line, percent=y.percent) for line in lines if line.points), *([mark[1]] if mark else [])])
        drawn.append(chart(lines, Axis("epoch", whole=True), y, title=f"{quantity} by epoch", description=description, mark=mark))
    return [found for found in drawn if found]


def curves_of_runs(runs: Mapping[str, Sequence[Course]]) -> list[Chart]:
    """Return the charts of val loss and val accuracy with a line for each run."""
    drawn = []
    for quantity, y in (("val_loss", Axis("val loss (nats)")), ("val_accuracy", Axis("val accuracy", percent=True))):
        lines = [Line(name, _points(epochs, quantity), style) for style, (name, epochs) in enumerate(runs.items())]
        description = "; ".join(_ends(line, percent=y.percent) for line in lines if line.points)
        drawn.append(chart(lines, Axis("epoch", whole=True), y, title=f"{y.label.partition(' (')[0]} by epoch", description=description))
    return [found for found in drawn if found]


def _points(epochs: Sequence[Course], name: str) -> list[tuple[float, float]]:
    """Return the value `name` by epoch, without the epochs that have no value, so that a line joins the evaluated epochs."""
    found = [(float(epoch.epoch), float(getattr(epoch, name))) for epoch in epochs]
    return [(epoch, value) for epoch, value in found if not math.isnan(value)]


def _ends(line: Line, *, percent: bool) -> str:
    """Return the first and the last value of a line in words, such as ``val 1.120 to 0.350``."""
    first, last = line.points[0][1], line.points[-1][1]
    shown = [f"{100 * value:.1f} %" if percent else f"{value:.3f}" for value in (first, last)]
    return f"{line.name} {shown[0]} to {shown[1]}"
