from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnkit.data.scan import scan
from cnnkit.data.sources.folder import FolderSource
from cnnkit.data.stream import Streamed, gather
from cnnkit.errors import DataError


def streamed(source, geometry) -> Streamed:
    found = scan(source, source.records, geometry, cache="none").canvases
    assert isinstance(found, Streamed)
    return found


def test_batches_are_the_rows_that_were_asked_for(drawn, geometry) -> None:
    source = drawn(50)
    parts = np.array_split(np.random.default_rng(0).permutation(50), 7)
    parts[3] = parts[3][:0]
    stream = streamed(source, geometry)
    assert stream.shape == (50, 3, 16, 16)
    batches = list(stream.batches(parts))
    assert [len(batch) for batch in batches] == [len(part) for part in parts]
    for part, batch in zip(parts, batches, strict=True):
        for row, canvas in zip(part, batch, strict=True):
            np.testing.assert_array_equal(canvas.transpose(1, 2, 0), source.image(row))


def test_nothing_asked_for_gives_nothing(drawn, geometry) -> None:
    assert list(streamed(drawn(3), geometry).batches([])) == []


def test_a_row_may_come_twice(drawn, geometry) -> None:
    (batch,) = streamed(drawn(3), geometry).batches([np.array([2, 2, 0])])
    np.testing.assert_array_equal(batch[0], batch[1])


def test_gathering_from_an_array_and_from_a_stream_is_the_same(drawn, geometry) -> None:
    source = drawn(20)
    parts = np.array_split(np.arange(20)[::-1], 3)
    kept = scan(source, source.records, geometry, cache="ram").canvases
    assert isinstance(kept, np.ndarray)
    for one, other in zip(gather(kept, parts), gather(streamed(source, geometry), parts), strict=True):
        assert one.flags.c_contiguous
        np.testing.assert_array_equal(one, other)


def test_a_file_that_changed_or_went_since_the_scan_is_named(image_folder, geometry) -> None:
    root: Path = image_folder()
    stream = streamed(FolderSource(root), geometry)
    rows = [np.arange(24)]
    (root / "ants/ants-003.jpg").write_bytes((root / "ants/ants-004.jpg").read_bytes())
    with pytest.raises(DataError, match=r"ants/ants-003\.jpg has changed since it was scanned; restore it, or start a new run"):
        list(stream.batches(rows))
    (root / "ants/ants-003.jpg").unlink()
    with pytest.raises(DataError, match=r"ants-003\.jpg could be read when it was scanned and cannot now: No such file or directory"):
        list(stream.batches(rows))
