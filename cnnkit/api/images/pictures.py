"""A few images of a source by name, for a page or a sheet that shows them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.image import UndecodableError
from cnnkit.data.source import open_source
from cnnkit.data.store.facts import decode


def pictures(data: str | Path, paths: Iterable[str], *, side: int) -> dict[str, NDArray[np.uint8]]:
    """Return the images `paths` of `data` as uint8 RGB (H, W, 3), shrunk to at most `side` px; unreadable ones are missing."""
    from cnnkit.report.pictures.thumbnail import shrunk

    wanted = list(paths)
    if not wanted:
        return {}
    source = open_source(str(data))
    records = {record.path: record for record in source.records}
    found: dict[str, NDArray[np.uint8]] = {}
    for path in wanted:
        if path in records:
            try:
                found[path] = shrunk(decode(source.read(records[path])).image, side)
            except UndecodableError:
                continue  # a finding of its own
    return found
