from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cnnkit.data import scan as scanning
from cnnkit.data.image import UndecodableError, read_image
from cnnkit.data.scan import CHUNK, WAITING, Scan, cache_folder, scan
from cnnkit.data.source import DigitsSource, FolderSource, Pixels, Record
from cnnkit.errors import DataError
from cnnkit.preprocess import Preprocess, Preprocessing

GEOMETRY = Preprocessing(image_size=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class Usage(NamedTuple):
    """What `shutil.disk_usage` returns, in bytes."""

    total: int
    used: int
    free: int


class Drawn:
    """A source of images that are made when they are read; one may be told what happens then."""

    name = "drawn"
    notes = ()

    def __init__(self, number: int, on_read: Callable[[int], object] = bool) -> None:
        self.records = tuple(Record(f"a/{index}", "a") for index in range(number))
        self._on_read = on_read

    def read(self, record: Record) -> Pixels:
        index = int(record.path[2:])
        self._on_read(index)
        return Pixels(self.image(index), f"{index:064d}")

    def image(self, index: int) -> NDArray[np.uint8]:
        return np.random.default_rng(index).integers(0, 256, (16, 16, 3), np.uint8)

    def size(self, record: Record) -> tuple[int, int]:
        return self.read(record).image.shape[:2]

    def stamp(self, record: Record) -> str:
        return record.path


def look(source: Any, **options: Any) -> Scan:
    return scan(source, source.records, options.pop("geometry", GEOMETRY), **options)


def stores() -> list[str]:
    folder = cache_folder() / "stores"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def folder(image_folder) -> Path:
    return image_folder({"ants": 3, "bees": 20})


def test_the_store_holds_the_canvases_of_the_files_in_their_order(folder: Path) -> None:
    source = FolderSource(folder)
    found = look(source)
    assert found.canvases.shape == (23, 3, 16, 16)
    assert found.canvases.dtype == np.uint8
    preprocess = Preprocess(GEOMETRY)
    for row, record in enumerate(source.records):
        image = torch.from_numpy(read_image(folder / record.path).copy())
        np.testing.assert_array_equal(found.canvases[row], preprocess.canvas(image[None])[0].numpy())
        assert found.scanned[row].sha256 == hashlib.sha256((folder / record.path).read_bytes()).hexdigest()
        assert found.scanned[row].error == ""


def test_the_store_lies_in_the_cache_and_the_data_folder_stays_as_it_was(folder: Path) -> None:
    def contents() -> dict[str, tuple[int, int]]:
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}

    before = contents()
    found = look(FolderSource(folder))
    assert found.folder is not None
    assert found.folder.is_relative_to(Path(os.environ["CNNKIT_CACHE"]))
    assert contents() == before
    assert sorted(path.name for path in found.folder.iterdir()) == ["canvases.npy", "index.json"]


def test_the_cache_folder_is_the_systems_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(cache_folder()) == os.environ["CNNKIT_CACHE"]
    for unset in (lambda: monkeypatch.setenv("CNNKIT_CACHE", ""), lambda: monkeypatch.delenv("CNNKIT_CACHE")):
        unset()
        assert cache_folder().name == "cnnkit"
        assert cache_folder().is_absolute()


def test_a_second_scan_reuses_the_store_and_decodes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = look(FolderSource(folder))
    monkeypatch.setattr(FolderSource, "read", lambda *_: pytest.fail("an image was decoded again"))
    second = look(FolderSource(folder))
    assert (first.reused, second.reused) == (False, True)
    assert second.folder == first.folder
    assert second.scanned == first.scanned
    np.testing.assert_array_equal(second.canvases, first.canvases)


def test_the_same_folder_by_another_path_is_the_same_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look(FolderSource(folder))
    monkeypatch.chdir(folder.parent)
    assert look(FolderSource(Path(folder.name))).reused


def test_the_digits_have_one_store_wherever_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = DigitsSource()
    scan(source, source.records[:20], GEOMETRY)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert scan(source, source.records[:20], GEOMETRY).reused


def test_a_touched_file_makes_a_new_store(folder: Path) -> None:
    first = look(FolderSource(folder))
    file = folder / "ants/ants-001.jpg"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    again = look(FolderSource(folder))
    assert not again.reused
    assert again.folder != first.folder


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 24},
        {"channels": 1, "mean": (0.0,), "std": (1.0,)},
        {"resize_mode": "pad"},
        {"interpolation": "bicubic"},
        {"crop": 0.9},
    ],
)
def test_another_geometry_makes_a_new_store(folder: Path, change: dict[str, Any]) -> None:
    look(FolderSource(folder))
    geometry = GEOMETRY.model_copy(update=change)
    again = look(FolderSource(folder), geometry=geometry)
    assert not again.reused
    assert again.canvases.shape == (23, geometry.channels, geometry.image_size, geometry.image_size)


def test_mean_and_std_play_no_part_in_the_store(folder: Path) -> None:
    look(FolderSource(folder))
    assert look(FolderSource(folder), geometry=GEOMETRY.model_copy(update={"mean": (0.5, 0.5, 0.5)})).reused


def test_a_removed_or_renamed_file_makes_a_new_store(folder: Path) -> None:
    look(FolderSource(folder))
    (folder / "bees/bees-000.jpg").rename(folder / "bees/bees-x.jpg")
    assert not look(FolderSource(folder)).reused
    (folder / "bees/bees-x.jpg").unlink()
    assert not look(FolderSource(folder)).reused


def test_memory_and_disk_hold_the_same(folder: Path) -> None:
    disk = look(FolderSource(folder), cache="disk")
    ram = look(FolderSource(folder), cache="ram")
    assert (disk.folder is None, ram.folder is None) == (False, True)
    assert ram.scanned == disk.scanned
    np.testing.assert_array_equal(ram.canvases, disk.canvases)


def test_memory_writes_nothing(folder: Path) -> None:
    look(FolderSource(folder), cache="ram")
    assert not cache_folder().exists()


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_any_number_of_workers_gives_the_same(cache: Any) -> None:
    source = Drawn(5 * CHUNK + 3)
    one = look(source, cache=cache, workers=1)
    shutil.rmtree(cache_folder(), ignore_errors=True)
    four = look(source, cache=cache, workers=4)
    assert not four.reused
    assert four.scanned == one.scanned
    np.testing.assert_array_equal(four.canvases, one.canvases)
    np.testing.assert_array_equal(four.canvases[-1].transpose(1, 2, 0), source.image(5 * CHUNK + 2))


def test_unreadable_files_are_recorded_with_the_reason(folder: Path) -> None:
    (folder / "bees/bees-004.jpg").write_text("no image")
    (folder / "ants/ants-001.jpg").write_bytes(b"")
    for found in (look(FolderSource(folder)), look(FolderSource(folder)), look(FolderSource(folder), cache="ram")):
        assert found.bad == [1, 7]
        assert found.scanned[1].error == "the file is empty"
        assert "not an image" in found.scanned[7].error
        assert {found.scanned[row].sha256 for row in found.bad} == {""}
        assert not found.canvases[found.bad].any()
        assert all(found.canvases[row].any() for row in range(23) if row not in found.bad)


def test_progress_counts_up_to_all(folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    look(FolderSource(folder), progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (23, 23)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    calls.clear()
    look(FolderSource(folder), progress=lambda done, total: calls.append((done, total)))
    assert calls == []  # nothing was done


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_an_interruption_leaves_nothing_behind(cache: Any) -> None:
    def interrupt(index: int) -> None:
        if index == 3 * CHUNK:
            raise KeyboardInterrupt

    threads, before = threading.active_count(), torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        look(Drawn(8 * CHUNK, interrupt), cache=cache, workers=2)
    assert stores() == []
    assert (threading.active_count(), torch.get_num_threads()) == (threads, before)


def test_torch_keeps_its_number_of_threads(folder: Path) -> None:
    def of_a_new_thread() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    torch.set_num_threads(2)  # what every test has; here also where a scan has left it otherwise
    look(FolderSource(folder))
    assert (torch.get_num_threads(), of_a_new_thread()) == (2, 2)


@pytest.mark.parametrize(("number", "reason"), [(errno.ENOSPC, "no space is left"), (errno.EROFS, "Read-only file system")])
def test_a_disk_that_takes_no_more_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch, number: int, reason: str) -> None:
    def full(file: Any, shape: Any, blocks: Any) -> None:
        next(blocks)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(scanning, "_fill", full)
    threads, before = threading.active_count(), torch.get_num_threads()
    with pytest.raises(DataError) as caught:
        look(Drawn(20 * CHUNK), cache="disk", workers=2)
    message = str(caught.value)
    assert message.startswith(f"{cache_folder() / 'stores'}: the store of decoded images (0 MB) cannot be written there: {reason};")
    assert "CNNKIT_CACHE" in message
    assert message.endswith("or use --cache ram")
    assert stores() == []
    assert (threading.active_count(), torch.get_num_threads()) == (threads, before)  # while the error is still at hand


def test_a_full_disk_is_found_while_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    # A memory map would be killed with SIGBUS; here every block is written, so the system can refuse one.
    class Full:
        def __init__(self, file: Any) -> None:
            self._file, self._left = file, 3000

        def write(self, data: Any) -> int:
            self._left -= len(data)
            if self._left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self._file.write(data)

    fill = scanning._fill
    monkeypatch.setattr(scanning, "_fill", lambda file, shape, blocks: fill(Full(file), shape, blocks))  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="no space is left"):
        look(Drawn(3 * CHUNK), cache="disk")
    assert stores() == []


def test_a_cache_that_cannot_be_made_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNNKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot be written there: Not a directory; free some, point CNNKIT_CACHE to a folder"):
        look(Drawn(3), cache="disk")


def test_auto_takes_memory_when_the_disk_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    need = 10 * 3 * 16 * 16
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, need))  # as much as is needed, but nothing to spare
    found = look(Drawn(10))
    assert found.folder is None
    assert stores() == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 2 * need))
    assert look(Drawn(10)).folder is not None


def test_auto_takes_memory_when_the_cache_may_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert look(Drawn(3)).folder is None


def test_auto_takes_memory_when_the_cache_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNNKIT_CACHE", str(tmp_path / "file"))
    assert look(Drawn(3)).folder is None


def test_auto_uses_a_store_that_is_there_even_when_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    look(Drawn(3))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 0))
    assert look(Drawn(3)).reused


def _truncate(folder: Path) -> None:
    file = folder / "canvases.npy"
    file.write_bytes(file.read_bytes()[:-1])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated canvases": _truncate,
    "empty canvases": lambda folder: (folder / "canvases.npy").write_bytes(b""),
    "other canvases": lambda folder: np.save(folder / "canvases.npy", np.zeros((5, 3, 8, 8), np.uint8)),
    "canvases of another type": lambda folder: np.save(folder / "canvases.npy", np.zeros((5, 3, 16, 16), np.float32)),
    "pickled canvases": lambda folder: np.save(folder / "canvases.npy", np.array([{}] * 5, object), allow_pickle=True),
    "no canvases": lambda folder: (folder / "canvases.npy").unlink(),
    "broken index": lambda folder: (folder / "index.json").write_text('[{"sha256": "'),
    "index of other items": lambda folder: (folder / "index.json").write_text('[{"hash": "1"}]'),
    "index of nothing": lambda folder: (folder / "index.json").write_text("null"),
    "short index": lambda folder: (folder / "index.json").write_text("[]"),
    "index that is no text": lambda folder: (folder / "index.json").write_bytes(b"\xff\xfe"),
    "no index": lambda folder: (folder / "index.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_made_anew(damage: str) -> None:
    source = Drawn(5)
    first = look(source)
    canvases = np.array(first.canvases)
    assert first.folder is not None
    DAMAGES[damage](first.folder)
    second = look(source)
    assert (second.reused, second.folder) == (False, first.folder)
    np.testing.assert_array_equal(second.canvases, canvases)
    assert look(source).reused
    assert stores() == [first.folder.name]


def test_a_store_that_another_process_made_meanwhile_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Drawn(5)
    fill = scanning._fill

    def slow(*given: Any) -> Any:
        monkeypatch.setattr(scanning, "_fill", fill)
        other = look(source)
        assert other.folder is not None
        (other.folder / "made-first").touch()
        return fill(*given)

    monkeypatch.setattr(scanning, "_fill", slow)
    found = look(source)
    assert found.folder is not None
    assert (found.folder / "made-first").exists()
    assert stores() == [found.folder.name]


def test_the_store_is_plain_npy_and_json() -> None:
    found = look(Drawn(2))
    assert found.folder is not None
    canvases = np.load(found.folder / "canvases.npy", allow_pickle=False)
    np.testing.assert_array_equal(canvases, found.canvases)
    assert json.loads((found.folder / "index.json").read_text())[1] == {"sha256": f"{1:064d}", "error": ""}
    assert isinstance(found.canvases, np.memmap)


def test_few_results_wait_for_their_turn() -> None:
    """While the first image is being decoded, the other threads do not run to the end of the data."""
    started: list[int] = []

    def hold(index: int) -> None:
        started.append(index)
        if index == 0:
            time.sleep(0.5)  # long enough for the other thread to decode ten times what may wait

    threads = 2
    source = Drawn(100 * CHUNK, hold)
    blocks = scanning._decode(source, source.records, GEOMETRY, threads, None)
    next(blocks)
    assert max(started) < (WAITING * threads + 1) * CHUNK
    blocks.close()
    assert max(started) < (WAITING * threads + 1) * CHUNK


def test_an_error_of_the_source_itself_is_not_hidden() -> None:
    def explode(index: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look(Drawn(2, explode))


def test_an_unreadable_image_of_any_source_is_recorded() -> None:
    def refuse(index: int) -> None:
        if index == 1:
            raise UndecodableError("smudged")

    assert [item.error for item in look(Drawn(3, refuse)).scanned] == ["", "smudged", ""]
