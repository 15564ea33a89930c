"""Metrics as terminal tables. Shares become percent here and nowhere else; every number is also in metrics.json.

Text never carries meaning by colour alone, and class names are never parsed as markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cnnkit.metrics.classification import ClassificationReport, ClassScore
from cnnkit.metrics.confusion import ConfusedPair, most_confused
from cnnkit.metrics.counts import Counts
from cnnkit.metrics.intervals import Estimate
from cnnkit.report.names import printable

FEW_IMAGES = 30  # below, the 95 % interval of a recall near 0.9 is wider than 20 points (Wilson, 27 of 30: 74 to 97 %)
_MOST_CLASSES = 50  # rows one still scrolls through; beyond, the classes of lowest F1
_WORST_CLASSES = 20
UNDEFINED = "-"


def percent(share: float) -> str:
    """Return a share in [0, 1] as percent with one digit, without the sign; ``-`` where it is undefined."""
    return UNDEFINED if math.isnan(share) else f"{100 * share:.1f}"


def metrics_table(report: ClassificationReport) -> RenderableType:
    """Return the scores of one split with their 95 % intervals, and a warning if the model does not beat a constant answer."""
    table = _table(f"{report.split}: {report.n} image{'s' * (report.n != 1)}, {len(report.classes)} classes")
    table.add_column("metric", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_row("accuracy", *_shares(report.accuracy), style="bold")
    if report.top5_accuracy:
        table.add_row("top-5 accuracy", *_shares(report.top5_accuracy))
    table.add_row("balanced accuracy", *_shares(report.balanced_accuracy))
    table.add_row("macro F1", *_shares(report.macro_f1))
    table.add_row("weighted F1", f"{percent(report.weighted_f1)} %", "")
    table.add_row("loss (nats)", *_nats(report.loss))
    baseline = f"always answering {printable(report.majority_class)}"
    table.add_row(Text(baseline), f"{percent(report.majority_baseline)} %", "", style="dim")
    if report.accuracy.low > report.majority_baseline:
        return table
    return Group(
        table,
        Text(
            f"Warning: not shown to be better than {baseline}: the accuracy's interval begins at "
            f"{percent(report.accuracy.low)} %, that answer scores {percent(report.majority_baseline)} %.",
            style="yellow",
        ),
    )


def per_class_table(report: ClassificationReport, most: int = _MOST_CLASSES) -> RenderableType:
    """Return precision, recall, F1 and images of each class; with more than `most` classes, of the 20 of lowest F1."""
    scores: Sequence[ClassScore] = report.per_class
    notes = []
    if len(scores) > most:
        scores = sorted(scores, key=lambda score: (math.isnan(score.f1), score.f1))[:_WORST_CLASSES]
        notes.append(f"The {len(scores)} classes of lowest F1; all {len(report.classes)} are in metrics.json.")
    table = _table()
    table.add_column("class", overflow="fold")
    for head in ("precision %", "recall %", "F1 %"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for score in scores:
        few = score.support < FEW_IMAGES
        values = (percent(score.precision), percent(score.recall), percent(score.f1), str(score.support))
        table.add_row(Text(printable(score.name)), *values, "few" if few else "", style="dim" if few else "")
    if any(score.support < FEW_IMAGES for score in scores):
        notes.append(f"few: under {FEW_IMAGES} images; scores of such a class may be off by more than 10 points.")
    if any(math.isnan(score.recall) or math.isnan(score.precision) for score in scores):
        notes.append(f"{UNDEFINED}: undefined; the class has no image here, or was never predicted.")
    return Group(table, *(Text(note, style="dim") for note in notes))


def most_confused_table(table: Counts, classes: Sequence[str], most: int = 15) -> RenderableType:
    """Return the largest mistakes of a (K, K) table, one row per pair of true and predicted class."""
    pairs: list[ConfusedPair] = most_confused(table, classes, most)
    if not pairs:
        return Text("No image was put into a wrong class.")
    shown = _table()
    shown.add_column("true", overflow="fold")
    shown.add_column("predicted", overflow="fold")
    shown.add_column("images", justify="right", no_wrap=True)
    shown.add_column("of the true class", justify="right", no_wrap=True)
    for pair in pairs:
        shown.add_row(Text(printable(pair.true)), Text(printable(pair.predicted)), str(pair.count), f"{percent(pair.share)} %")
    return shown


def _table(title: str | None = None) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)


def _shares(estimate: Estimate) -> tuple[str, str]:
    return f"{percent(estimate.value)} %", f"[{percent(estimate.low)}, {percent(estimate.high)}]"


def _nats(estimate: Estimate) -> tuple[str, str]:
    if not math.isfinite(estimate.low):
        return f"{estimate.value:.3f}", UNDEFINED
    return f"{estimate.value:.3f}", f"[{estimate.low:.3f}, {estimate.high:.3f}]"
