"""The contact sheet of a data set's health: copies in rows, and images with suspect labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnkit.report.pictures.contact_sheet import Tile, contact_sheet
from cnnkit.report.terminal.health import by_severity

if TYPE_CHECKING:
    from cnnkit.doctor.finding import Finding, Health

PICTURED_FINDINGS = (
    "leak",
    "label-conflict",
    "near-conflict",
    "duplicate",
    "series",
    "companion-files",
    "blurred",
    "label-suspect",
)  # a person must look at the images
MAX_CASES = 40  # of each finding
FILES_PER_ROW = 6
COMPARED_SIZE = 32  # px to which pictures shrink for the choice of the symmetry that compares them


def sheet_files(health: Health) -> list[str]:
    """Return the distinct files that `health_sheet` shows."""
    return list(dict.fromkeys(file for _, row in _rows(health) for file in row))


def health_sheet(health: Health, images: Mapping[str, NDArray[np.uint8]], *, title: str = "") -> bytes:
    """Return a PNG with the cases of `PICTURED_FINDINGS`: one row for a group of copies, `FILES_PER_ROW` single files in a row.

    `images` are uint8 RGB (H, W, 3) by path; a file without an image is left out. The sheet shows at most `MAX_CASES` of a finding. A row
    of a near-conflict ends with the difference of its first two images.
    """
    rows = [(label, [Tile(images[file], file) for file in row if file in images]) for label, row in _rows(health)]
    for label, tiles in rows:
        if label == "near-conflict" and len(tiles) > 1:
            tiles.append(Tile(difference(tiles[0].image, tiles[1].image), "difference"))
    rows = [(label, tiles) for label, tiles in rows if tiles]
    return contact_sheet([tiles for _, tiles in rows], labels=[label for label, _ in rows], title=title)


def difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the absolute difference of two images in the size of the second, uint8 RGB (H, W, 3), with its largest value at 255.

    The first is resized, and turned or mirrored as it fits best.
    """
    turned = min(_symmetries(first), key=lambda view: _levels(_resized(view, COMPARED_SIZE), _resized(second, COMPARED_SIZE)).mean())
    height, width = second.shape[:2]
    levels = _levels(np.asarray(Image.fromarray(turned).resize((width, height), Image.Resampling.BOX)), second)
    return (levels * (255 / max(1, levels.max()))).astype(np.uint8)


def _symmetries(image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield the eight views of an image, quarter turns and mirror images, the unchanged image first."""
    for quarter in range(4):
        turned = np.rot90(image, quarter)
        yield from (np.ascontiguousarray(view) for view in (turned, turned[:, ::-1]))


def _resized(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))


def _levels(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.int16]:
    return np.abs(first.astype(np.int16) - second)


def _rows(health: Health) -> Iterator[tuple[str, tuple[str, ...]]]:
    for finding in by_severity(health.findings):
        if finding.id in PICTURED_FINDINGS:
            yield from ((finding.id, row) for row in _rows_of(finding))


def _rows_of(finding: Finding) -> Iterator[tuple[str, ...]]:
    cases = finding.files[:MAX_CASES]
    alone = [case[0] for case in cases if len(case) == 1]
    yield from (case[:FILES_PER_ROW] for case in cases if len(case) > 1)
    yield from (tuple(alone[start : start + FILES_PER_ROW]) for start in range(0, len(alone), FILES_PER_ROW))
