"""Results as tables in a notebook."""

from __future__ import annotations

from collections.abc import Sequence

from cnnkit.report.page.html import render


def table_html(heads: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "", total: int | None = None) -> str:
    """Return a table with the `heads` of its columns and one line per row; a line below it counts the rows of `total` left out."""
    more = 0 if total is None else total - len(rows)
    return render("notebook.html", heads=heads, rows=rows, caption=caption, more=more)
