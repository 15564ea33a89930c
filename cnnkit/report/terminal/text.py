"""The tables of an evaluation as plain text, the content of report.txt."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import RenderableType

from cnnkit.metrics.classification import ClassificationReport
from cnnkit.metrics.confusion import Normalize
from cnnkit.metrics.named_score import NamedScore
from cnnkit.report.terminal.confusion import confusion_table
from cnnkit.report.terminal.console import EscapingConsole
from cnnkit.report.terminal.tables import metrics_table, per_class_table

WIDTH = 140  # characters: fits a confusion matrix of 10 to 20 classes and landscape paper


def report_text(
    report: ClassificationReport,
    heading: str = "",
    more: Sequence[RenderableType] = (),
    normalize: Normalize = "none",
    scores: Sequence[NamedScore] = (),
) -> str:
    """Return `heading`, metrics, per-class table, confusion matrix and `more` as text without colour, `WIDTH` characters wide."""
    file = io.StringIO()
    console = EscapingConsole(file=file, width=WIDTH, color_system=None)
    if heading:
        console.print(heading, "", sep="\n")
    matrix = confusion_table(report.confusion, report.classes, normalize)
    console.print(metrics_table(report, scores), "", per_class_table(report), "", matrix, sep="\n")
    for part in more:
        console.print("", part, sep="\n")
    return file.getvalue()
