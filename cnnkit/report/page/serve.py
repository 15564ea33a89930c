"""The page of ``cnnkit serve``: it sends images to its own server and shows their predictions."""

from __future__ import annotations

from collections.abc import Sequence

from cnnkit.errors import shortened
from cnnkit.report.page.html import render

MAX_NAMED_CLASSES = 12  # in the line below the title


def serve_html(name: str, classes: Sequence[str], *, has_threshold: bool, has_sets: bool) -> str:
    """Return the page for the model `name`; `has_threshold` and `has_sets` say which rules its file holds."""
    return render(
        "serve.html",
        served=True,
        title=name,
        classes=shortened(classes, MAX_NAMED_CLASSES),
        count=len(classes),
        has_threshold=has_threshold,
        has_sets=has_sets,
    )
