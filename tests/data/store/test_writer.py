from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnkit.data.store import journal, writer
from cnnkit.data.store.facts import Facts
from cnnkit.data.store.scan import scan
from cnnkit.data.store.store import JOURNAL_FILE, LOOK_SHAPE, LOOKS_FILE, THUMBNAIL_SHAPE, Store, StoredRows, find_store, stores_folder
from cnnkit.data.store.writer import RowFile, StoreWriter, open_writer


def append(target: StoreWriter, *keys: tuple[str, str], level: int = 7, canvases: Any = None) -> None:
    count = len(keys)
    facts = [Facts(sha256=hashlib.sha256(f"{path} {stamp}".encode()).hexdigest()) for path, stamp in keys]
    thumbnails, looks = (np.full((count, *shape), level, np.uint8) for shape in (THUMBNAIL_SHAPE, LOOK_SHAPE))
    target.append(keys, facts, thumbnails, looks, canvases or {})


def opened() -> Store:
    found = find_store("noise")
    assert found is not None
    return found


def folders() -> list[str]:
    return sorted(path.name.rpartition("-")[2] for path in stores_folder().iterdir() if path.is_dir())


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4, 5], [5, 3, 4, 0, 2, 1], [4, 5, 0, 1, 2, 3]])
def test_rows_are_written_in_any_order(tmp_path: Path, rows: list[int]) -> None:
    values = np.random.default_rng(0).integers(0, 256, (6, 2, 3), np.uint8)
    file = RowFile(tmp_path / "file", (2, 3), 0)
    for part in np.array_split(np.array(rows), 3):
        file.put(part, values[part])
    file.put(np.empty(0, np.int64), values[:0])
    file.finish(7)
    file.close()
    written = np.fromfile(tmp_path / "file", np.uint8).reshape(7, 2, 3)
    np.testing.assert_array_equal(written[:6], values)
    RowFile(tmp_path / "file", (2, 3), 2).close()
    assert (tmp_path / "file").stat().st_size == 12


def test_facts_are_read_back_exactly(noise_source) -> None:
    odd = Facts("ab" * 32, "", 123, 7, 9, 0.1, 1 / 3, 2.5e-7, "JPEG", "I;16", 6, True, 93)
    with open_writer("noise", ()) as made:
        assert made is not None
        thumbnails, looks = (np.zeros((1, *shape), np.uint8) for shape in (THUMBNAIL_SHAPE, LOOK_SHAPE))
        made[0].append([("a/\udcff\n", "x")], [odd], thumbnails, looks, {})
    assert opened().facts == (odd,)
    assert opened().keys == (("a/\udcff\n", "x"),)


def test_only_committed_rows_count(geometry) -> None:
    with open_writer("noise", ()) as made:
        assert made is not None
        append(made[0], ("a", "1"), canvases={geometry: np.full((1, 3, 16, 16), 9, np.uint8)})
        made[0].commit()
        append(made[0], ("b", "1"), ("c", "1"), level=8, canvases={geometry: np.zeros((2, 3, 16, 16), np.uint8)})
        assert opened().keys == (("a", "1"),)
        journal_size = (opened().folder / JOURNAL_FILE).stat().st_size
        copied = (opened().folder / LOOKS_FILE).read_bytes()
    assert opened().keys == (("a", "1"), ("b", "1"), ("c", "1"))
    # The state of a process that was killed before the second commit, in the middle of its line.
    folder = opened().folder
    (folder / LOOKS_FILE).write_bytes(copied)
    os.truncate(folder / JOURNAL_FILE, journal_size + 20)
    assert opened().keys == (("a", "1"),)
    with open_writer("noise", {"a", "d"}) as made:
        assert made is not None
        append(made[0], ("d", "1"), level=3)
    assert opened().keys == (("a", "1"), ("d", "1"))
    assert opened().looks[:, 0, 0].tolist() == [7, 3]
    assert opened().has_canvases(np.arange(2), geometry).tolist() == [True, False]


def test_an_error_of_the_disk_keeps_the_last_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def write() -> None:
        with open_writer("noise", ()) as made:
            assert made is not None
            append(made[0], ("a", "1"))
            made[0].commit()
            append(made[0], ("b", "1"))
            monkeypatch.setattr(os, "fsync", full)
            made[0].commit()

    with pytest.raises(OSError, match="No space left"):
        write()
    assert opened().keys == (("a", "1"),)
    assert (opened().folder / LOOKS_FILE).stat().st_size == 64 * 64


def test_a_store_without_most_of_its_images_is_renewed(noise_source, geometry) -> None:
    source = noise_source(10)
    scan(source, source.records, geometry)
    source.stamps = {record.path: "2" for record in source.records}
    scan(source, source.records, geometry)
    assert (folders(), len(opened().keys)) == (["0001"], 20)
    source.records, source.stamps["a/0"] = source.records[:8], "3"
    found = scan(source, source.records, geometry)
    assert len(opened().keys) == 9  # the newest state of 8 images, and the new one
    assert folders() == ["0001", "0002"]  # this process uses the first one
    assert source.read_count == 21
    again = noise_source(8)
    again.stamps = source.stamps
    whole = scan(again, again.records, geometry)
    assert (again.read_count, whole.facts) == (0, found.facts)
    assert isinstance(whole.canvases, StoredRows)
    for row in range(8):
        np.testing.assert_array_equal(whole.canvases[row].transpose(1, 2, 0), source.image(row))


def test_older_stores_and_folders_of_dead_processes_are_removed(noise_source) -> None:
    scan(noise_source(2), noise_source(2).records)
    folder = opened().folder
    prefix = folder.name.partition("-")[0]
    dead = folder.with_name(f"{prefix}-0009.part-999999999-abc")
    living = folder.with_name(f"{prefix}-0009.part-{os.getpid()}-abc")
    older = folder.with_name(f"{prefix}-0123456789abcdef0123")  # of an older version
    for left in (dead, living, older):
        left.mkdir()
    (folder / JOURNAL_FILE).unlink()
    scan(noise_source(3), noise_source(3).records)
    assert [left.exists() for left in (dead, living, older)] == [False, True, False]


def test_a_journal_ends_before_its_first_damaged_line(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    lines = [journal.encode({"number": number}) for number in range(3)]
    file.write_bytes(b"".join(lines))
    assert journal.read(file) == ([{"number": 0}, {"number": 1}, {"number": 2}], sum(map(len, lines)))
    file.write_bytes(lines[0] + lines[1].replace(b"1}", b"7}") + lines[2])
    assert journal.read(file) == ([{"number": 0}], len(lines[0]))
    file.write_bytes(lines[0] + lines[1][:-1])
    assert journal.read(file) == ([{"number": 0}], len(lines[0]))


def test_work_is_committed_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(writer.time, "monotonic", lambda: now[0])
    with open_writer("noise", ()) as made:
        assert made is not None
        append(made[0], ("a", "1"))
        made[0].commit_in_time()
        assert opened().keys == ()
        now[0] += 1
        made[0].commit_in_time()
        assert opened().keys == (("a", "1"),)
