"""The contact sheet of a data set's health: copies in rows, and images with suspect labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cnnkit.report.pictures.contact_sheet import Tile, contact_sheet
from cnnkit.report.terminal.health import by_severity

if TYPE_CHECKING:
    from cnnkit.doctor.finding import Finding, Health

PICTURED_FINDINGS = (
    "leak",
    "label-conflict",
    "duplicate",
    "series",
    "companion-files",
    "blurred",
    "label-suspect",
)  # a person must look at the images
MAX_CASES = 40  # of each finding
FILES_PER_ROW = 6


def sheet_files(health: Health) -> list[str]:
    """Return the distinct files that `health_sheet` shows."""
    return list(dict.fromkeys(file for _, row in _rows(health) for file in row))


def health_sheet(health: Health, images: Mapping[str, NDArray[np.uint8]], *, title: str = "") -> bytes:
    """Return a PNG with the cases of `PICTURED_FINDINGS`: one row for a group of copies, `FILES_PER_ROW` single files in a row.

    `images` are uint8 RGB (H, W, 3) by path; a file without an image is left out. The sheet shows at most `MAX_CASES` of a finding.
    """
    rows = [(label, [Tile(images[file], file) for file in row if file in images]) for label, row in _rows(health)]
    rows = [(label, tiles) for label, tiles in rows if tiles]
    return contact_sheet([tiles for _, tiles in rows], labels=[label for label, _ in rows], title=title)


def _rows(health: Health) -> Iterator[tuple[str, tuple[str, ...]]]:
    for finding in by_severity(health.findings):
        if finding.id in PICTURED_FINDINGS:
            yield from ((finding.id, row) for row in _rows_of(finding))


def _rows_of(finding: Finding) -> Iterator[tuple[str, ...]]:
    cases = finding.files[:MAX_CASES]
    alone = [case[0] for case in cases if len(case) == 1]
    yield from (case[:FILES_PER_ROW] for case in cases if len(case) > 1)
    yield from (tuple(alone[start : start + FILES_PER_ROW]) for start in range(0, len(alone), FILES_PER_ROW))
