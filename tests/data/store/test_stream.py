from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnkit.data.sources.folder import FolderSource
from cnnkit.data.store import stream
from cnnkit.data.store.scan import scan
from cnnkit.data.store.stream import StreamedCanvases, gather
from cnnkit.errors import DataError


def streamed(source, geometry) -> StreamedCanvases:
    found = scan(source, source.records, geometry, cache="none").canvases
    assert isinstance(found, StreamedCanvases)
    return found


def test_batches_are_the_requested_rows(noise_source, geometry) -> None:
    source = noise_source(50)
    parts = np.array_split(np.random.default_rng(0).permutation(50), 7)
    parts[3] = parts[3][:0]
    stream = streamed(source, geometry)
    assert stream.shape == (50, 3, 16, 16)
    batches = list(stream.batches(parts))
    assert [len(batch) for batch in batches] == [len(part) for part in parts]
    for part, batch in zip(parts, batches, strict=True):
        for row, canvas in zip(part, batch, strict=True):
            np.testing.assert_array_equal(canvas.transpose(1, 2, 0), source.image(row))


def test_no_rows_give_no_batches(noise_source, geometry) -> None:
    assert list(streamed(noise_source(3), geometry).batches([])) == []


def test_a_row_may_be_requested_twice(noise_source, geometry) -> None:
    (batch,) = streamed(noise_source(3), geometry).batches([np.array([2, 2, 0])])
    np.testing.assert_array_equal(batch[0], batch[1])


def test_an_array_and_a_stream_give_the_same_batches(noise_source, geometry) -> None:
    source = noise_source(20)
    parts = np.array_split(np.arange(20)[::-1], 3)
    kept = scan(source, source.records, geometry, cache="ram").canvases
    assert isinstance(kept, np.ndarray)
    for one, other in zip(gather(kept, parts), gather(streamed(source, geometry), parts), strict=True):
        assert one.flags.c_contiguous
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def large(tmp_path: Path, monkeypatch):
    """Return the array and the file of a store that is too large for a memory map."""
    monkeypatch.setattr(stream, "MAX_MAPPED_BYTES", 0)
    file = tmp_path / "canvases.npy"
    np.save(file, np.random.default_rng(0).integers(0, 256, (50, 3, 16, 16), np.uint8))
    return np.load(file, mmap_mode="r"), file


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux lists memory maps")
def test_rows_of_a_large_store_are_read_and_not_mapped(large) -> None:
    canvases, file = large
    parts = np.array_split(np.random.default_rng(1).permutation(50), 7)
    parts[3] = parts[3][:0]
    batches = list(gather(canvases, parts))
    assert in_memory(file) == 0
    for part, batch in zip(parts, batches, strict=True):
        np.testing.assert_array_equal(batch, canvases[part])
    assert in_memory(file) > 0


def in_memory(file: Path) -> int:
    """Return the number of bytes of `file` that are mapped and in memory."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    return sum(1024 * int(next(line for line in lines if line.startswith("Rss")).split()[1]) for line in lines if line.endswith(str(file)))


def test_a_removed_large_store_can_still_be_read(large) -> None:
    canvases, file = large
    begun = gather(canvases, [np.array([1]), np.array([2])])
    first = next(begun)
    file.unlink()
    (later,) = gather(canvases, [np.array([1, 2])])
    np.testing.assert_array_equal(later, np.concatenate([first, next(begun)]))


def test_a_truncated_large_store_is_named(large) -> None:
    canvases, file = large
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size - 1)
    with pytest.raises(DataError, match=r"canvases\.npy: the store of decoded images is truncated; remove it with: cnnkit cache --clear"):
        list(gather(canvases, [np.array([0, 49])]))


def test_a_changed_or_deleted_file_is_named(image_folder, geometry) -> None:
    root: Path = image_folder()
    stream = streamed(FolderSource(root), geometry)
    rows = [np.arange(24)]
    (root / "ants/ants-003.jpg").write_bytes((root / "ants/ants-004.jpg").read_bytes())
    with pytest.raises(DataError, match=r"ants/ants-003\.jpg has changed since it was scanned; restore it, or start a new run"):
        list(stream.batches(rows))
    (root / "ants/ants-003.jpg").unlink()
    with pytest.raises(
        DataError, match=r"ants-003\.jpg was readable in the scan and is not any more: No such file or directory; restore it"
    ):
        list(stream.batches(rows))
