"""Results as tables in a notebook."""

from __future__ import annotations

from collections.abc import Sequence

from cnnkit.metrics.classification import ClassificationReport
from cnnkit.metrics.named_score import NamedScore
from cnnkit.report.page.html import render
from cnnkit.report.terminal.numbers import images_text, number_cells, share_cells


def table_html(heads: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "", total: int | None = None) -> str:
    """Return a table with the `heads` of its columns and one line per row; a line below it counts the rows of `total` left out."""
    more = 0 if total is None else total - len(rows)
    return render("notebook.html", heads=heads, rows=rows, caption=caption, more=more)


def report_html(report: ClassificationReport, scores: Sequence[NamedScore] = ()) -> str:
    """Return the main scores of `report`, and the `scores` of other packages, with their 95 % intervals."""
    rows = (
        ("accuracy", *share_cells(report.accuracy)),
        ("balanced accuracy", *share_cells(report.balanced_accuracy)),
        ("macro F1", *share_cells(report.macro_f1)),
        ("loss (nats)", *number_cells(report.loss)),
        *((score.text, *number_cells(score.estimate)) for score in scores),
    )
    caption = f"{images_text(report.n, report.units, report.split)}, {len(report.classes)} classes"
    return table_html(("metric", "value", "95 % interval"), rows, caption=caption)
