"""Metrics as terminal tables; metrics.json has every number too.

Words carry every meaning; colour only repeats it. Class names are not parsed as markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cnnkit.metrics.baselines import COLOUR_BASELINE, Baseline
from cnnkit.metrics.class_scores import MIN_CLASS_IMAGES, ClassScore, Interval
from cnnkit.metrics.classification import ClassificationReport
from cnnkit.metrics.confusion import ConfusedPair, most_confused
from cnnkit.metrics.counts import Counts
from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.named_score import NamedScore
from cnnkit.report.terminal.console import escaped
from cnnkit.report.terminal.numbers import UNDEFINED, images_text, number_cells, percent, share_cells

_MAX_CLASSES = 50  # a longer table shows only the classes of lowest F1
_NUM_LOWEST_CLASSES = 20
NARROW_INTERVAL = 0.04  # as a share: rounded to whole percent, a narrower interval may lose a quarter of its width


def metrics_table(report: ClassificationReport, scores: Sequence[NamedScore] = ()) -> RenderableType:
    """Return the scores of one split with their 95 % intervals, and a warning for each baseline that the model does not clearly beat.

    `scores` are those of the metrics of other packages.
    """
    table = _table(f"{report.split}: {images_text(report.n, report.units)}, {len(report.classes)} classes")
    table.add_column("metric", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_row("accuracy", *share_cells(report.accuracy), style="bold")
    if report.top_k_accuracy:
        table.add_row(f"top-{report.top_k} accuracy", *share_cells(report.top_k_accuracy))
    table.add_row("balanced accuracy", *share_cells(report.balanced_accuracy))
    table.add_row("macro F1", *share_cells(report.macro_f1))
    table.add_row("weighted F1", *share_cells(Estimate(report.weighted_f1, *report.weighted_f1_interval)))
    table.add_row("ROC AUC", *share_cells(report.roc_auc))
    table.add_row("average precision", *share_cells(report.average_precision))
    table.add_row("loss (nats)", *number_cells(report.loss))
    table.add_row("Brier score", *number_cells(report.brier))
    table.add_row("calibration error", *(("too few images", "") if math.isnan(report.ece.value) else share_cells(report.ece)))
    for score in scores:
        table.add_row(Text(escaped(score.text)), *number_cells(score.estimate))
    for one in report.baselines:
        table.add_row(Text(escaped(one.summary)), *share_cells(one.accuracy), style="dim")
    warnings = [Text(_not_beaten(one), style="yellow") for one in report.baselines if not one.is_beaten]
    if report.units < report.n:
        assumption = "The intervals count units: images that are copies of each other, or of one group, are not independent."
        warnings.append(Text(assumption, style="dim"))
    return Group(table, *warnings) if warnings else table


def headline(report: ClassificationReport) -> str:
    """Return the accuracy as counts, with its 95 % interval: ``97 of 100 test images right, 92 to 99 %``.

    The ends of the interval have whole percent, or tenths if the interval is narrower than `NARROW_INTERVAL`.
    """
    digits = 1 if report.accuracy.high - report.accuracy.low < NARROW_INTERVAL else 0
    split = "" if report.split == "all" else report.split
    right = int(report.confusion.trace())
    ends = f"{100 * report.accuracy.low:.{digits}f} to {100 * report.accuracy.high:.{digits}f} %"
    return f"{right:,} of {images_text(report.n, report.units, split)} right, {ends}"


def _not_beaten(one: Baseline) -> str:
    """Return a warning with the figures of a baseline that the model does not clearly beat."""
    advice = "; do the classes differ in more than their colours?" if one.name == COLOUR_BASELINE else ""
    return (
        f"Warning: the model is not clearly better than {escaped(one.summary)}: only the model is right on {one.counts.only_second} "
        f"images, only the baseline on {one.counts.only_first} (exact p = {one.p_value:.2g}){advice}"
    )


def per_class_table(report: ClassificationReport, limit: int = _MAX_CLASSES) -> RenderableType:
    """Return precision, recall, F1 and images of each class; of more than `limit` classes only the 20 of lowest F1."""
    scores: Sequence[ClassScore] = report.per_class
    notes = []
    if len(scores) > limit:
        scores = sorted(scores, key=lambda score: (math.isnan(score.f1), score.f1))[:_NUM_LOWEST_CLASSES]
        notes.append(f"The {len(scores)} classes of lowest F1; all {len(report.classes)} are in metrics.json.")
    table = _table()
    table.add_column("class", overflow="fold")
    for head in ("precision %", "recall %", "F1 %"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for score in scores:
        values = (
            _with_ends(score.precision, score.precision_interval),
            _with_ends(score.recall, score.recall_interval),
            _with_ends(score.f1, score.f1_interval),
            str(score.support),
        )
        table.add_row(
            Text(escaped(score.name)), *values, "few" if score.has_few_images else "", style="dim" if score.has_few_images else ""
        )
    notes.append("[low–high]: 95 % interval in percent.")
    if any(score.has_few_images for score in scores):
        notes.append(f"few: under {MIN_CLASS_IMAGES} images, with copies and groups counted once; such scores may be off by 10 points.")
    if any(math.isnan(score.recall) or math.isnan(score.precision) for score in scores):
        notes.append(f"{UNDEFINED}: undefined, because the class has no image or no prediction.")
    return Group(table, *(Text(note, style="dim") for note in notes))


def most_confused_table(table: Counts, classes: Sequence[str], limit: int = 15) -> RenderableType:
    """Return the largest mistakes of a (K, K) table, one row per pair of true and predicted class."""
    pairs: list[ConfusedPair] = most_confused(table, classes, limit)
    if not pairs:
        return Text("The model predicts every image correctly.")
    shown = _table()
    shown.add_column("true", overflow="fold")
    shown.add_column("predicted", overflow="fold")
    shown.add_column("images", justify="right", no_wrap=True)
    shown.add_column("of the true class", justify="right", no_wrap=True)
    for pair in pairs:
        shown.add_row(Text(escaped(pair.true)), Text(escaped(pair.predicted)), str(pair.count), f"{percent(pair.share)} %")
    return shown


def _table(title: str | None = None) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)


def _with_ends(share: float, ends: Interval) -> str:
    """Return a share with the ends of its interval in whole percent, rounded outwards: ``88.9 [76–96]``."""
    if math.isnan(share):
        return UNDEFINED
    return f"{percent(share)} [{math.floor(100 * ends[0])}–{math.ceil(100 * ends[1])}]"
