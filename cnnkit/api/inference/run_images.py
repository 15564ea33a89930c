"""Canvases of selected images of a run, read from the store of its training or decoded from the files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.inference.samples import run_source
from cnnkit.data.image import UndecodableError
from cnnkit.data.source import open_source
from cnnkit.data.store.facts import decode
from cnnkit.data.store.scan import find_scan, scan
from cnnkit.data.store.stream import Canvases, gather, in_batches
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.run_dir import RunDir, RunRecord

if TYPE_CHECKING:
    from cnnkit.data.source import Record, Source


@dataclass(frozen=True, eq=False)
class ImageCanvases:
    """Canvases, uint8 (N, C, S, S), and the row of each readable image by its path; `stored` is True if nothing was decoded."""

    rows: dict[str, int]
    canvases: Canvases
    stored: bool

    def known(self, paths: Sequence[str]) -> list[str]:
        """Return the `paths` that have a canvas."""
        return [path for path in paths if path in self.rows]

    def missing(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Return a sentence on the `paths` that have no canvas; an empty tuple if all have one."""
        absent = [path for path in paths if path not in self.rows]
        if not absent:
            return ()
        return (f"{len(absent)} of {len(paths)} images cannot be shown, because they are missing or unreadable, such as {absent[0]}",)

    def pictures(self, paths: Sequence[str], size: int) -> dict[str, NDArray[np.uint8]]:
        """Return the known `paths` as uint8 RGB (H, W, 3), shrunk to at most `size` px."""
        from cnnkit.report.pictures.thumbnail import shrunk

        known = self.known(list(dict.fromkeys(paths)))
        return {path: shrunk(picture(canvas), size) for part, block in self.of(known) for path, canvas in zip(part, block, strict=True)}

    def of(self, paths: Sequence[str]) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
        """Yield the `paths`, which must all be known, in batches with their canvases (n, C, S, S), in the order of the store."""
        ordered = sorted(paths, key=self.rows.__getitem__)  # so that the file of the store is read forwards
        batches = in_batches(np.array([self.rows[path] for path in ordered], np.int64))
        start = 0
        for block in gather(self.canvases, batches):
            yield ordered[start : start + len(block)], block
            start += len(block)


def find_canvases(source: Source, scope: Sequence[Record], paths: Sequence[str], geometry: Preprocessing) -> ImageCanvases:
    """Return the canvases of at least the images `paths` of `scope`.

    The store of `scope` gives the canvases of all its images. Without a store, only the images `paths` are decoded. Missing and
    unreadable images are left out.
    """
    found = find_scan(source, scope, geometry)
    records = scope
    if found is None:
        wanted = set(paths)
        records = [record for record in scope if record.path in wanted]
        found = scan(source, records, geometry, cache="ram")
    assert found.canvases is not None  # noqa: S101 (a geometry was given)
    is_readable = found.facts.readable
    rows = {record.path: row for row, record in enumerate(records) if is_readable[row]}
    return ImageCanvases(rows, found.canvases, found.reused)


def find_run_canvases(run: RunDir, record: RunRecord, paths: Sequence[str]) -> ImageCanvases:
    """Return the canvases on which the network of `run` sees its images `paths`; `record` is the record of `run`.

    Raises `DataError` if the source of the images is not found.
    """
    source, scope = run_source(run, record)
    return find_canvases(source, scope, paths, record.preprocessing)


def picture(canvas: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn a canvas (C, S, S) of one or three channels into uint8 RGB (S, S, 3)."""
    return np.ascontiguousarray(np.broadcast_to(canvas, (3, *canvas.shape[1:])).transpose(1, 2, 0))


def pictures(data: str | Path, paths: Iterable[str], *, size: int) -> dict[str, NDArray[np.uint8]]:
    """Return the images `paths` of `data` as uint8 RGB (H, W, 3), shrunk to at most `size` px, without the unreadable images."""
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
                found[path] = shrunk(decode(source.read(records[path]), size).image, size)
            except UndecodableError:
                continue  # the doctor reports unreadable images as a finding of their own
    return found
