from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest
import torch

from cnnkit.data.image import UndecodableError, read_image
from cnnkit.data.sources.digits import DigitsSource
from cnnkit.data.sources.folder import FolderSource
from cnnkit.data.store import scan as scanning
from cnnkit.data.store import store as storing
from cnnkit.data.store.scan import Scan, find_contents, scan
from cnnkit.data.store.store import FACTS_FILE, LOOKS_FILE, THUMBNAILS_FILE, ArrayWriter, cache_folder
from cnnkit.data.store.stream import StreamedCanvases
from cnnkit.errors import DataError
from cnnkit.model.canvas import make_canvases
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing

GEOMETRY = Preprocessing(image_size=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class Usage(NamedTuple):
    """The result of `shutil.disk_usage`, in bytes."""

    total: int
    used: int
    free: int


class Memory(NamedTuple):
    """The used part of the result of `psutil.virtual_memory`, in bytes."""

    available: int


def look(source: Any, **options: Any) -> Scan:
    return scan(source, source.records, options.pop("geometry", GEOMETRY), **options)


def pixels(found: Scan) -> np.ndarray:
    assert isinstance(found.canvases, np.ndarray)
    return np.asarray(found.canvases)


def stores() -> list[str]:
    folder = cache_folder() / "stores"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def folder(image_folder) -> Path:
    return image_folder({"ants": 3, "bees": 20})


def test_the_store_holds_facts_and_canvases_of_the_files_in_their_order(folder: Path) -> None:
    source = FolderSource(folder)
    found = look(source)
    assert pixels(found).shape == (23, 3, 16, 16)
    preprocess = Preprocess(GEOMETRY)
    for row, record in enumerate(source.records):
        image = torch.from_numpy(read_image(folder / record.path).copy())
        np.testing.assert_array_equal(pixels(found)[row], preprocess.canvas(image[None])[0].numpy())
        facts = found.facts[row]
        assert facts.sha256 == hashlib.sha256((folder / record.path).read_bytes()).hexdigest()
        assert (facts.width, facts.height, facts.error) == (40, 32, "")
    assert found.thumbnails.shape == (23, 16, 16, 3)
    assert found.looks.shape == (23, 64, 64)


def test_the_store_is_in_the_cache_and_the_data_folder_stays_unchanged(folder: Path) -> None:
    def contents() -> dict[str, tuple[int, int]]:
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}

    before = contents()
    found = look(FolderSource(folder))
    assert found.folder is not None
    assert found.folder.is_relative_to(Path(os.environ["CNNKIT_CACHE"]))
    assert contents() == before
    names = sorted(path.name for path in found.folder.iterdir())
    assert [names[0][:9], *names[1:]] == ["canvases-", FACTS_FILE, LOOKS_FILE, THUMBNAILS_FILE]


def test_a_second_scan_reuses_the_store_and_decodes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = look(FolderSource(folder))
    monkeypatch.setattr(FolderSource, "read", lambda *_: pytest.fail("an image was read again"))
    second = look(FolderSource(folder))
    assert (first.reused, second.reused) == (False, True)
    assert second.folder == first.folder
    assert second.facts == first.facts
    np.testing.assert_array_equal(pixels(second), pixels(first))
    assert scan(FolderSource(folder), FolderSource(folder).records).facts == first.facts  # also without canvases


def test_the_same_folder_by_another_path_is_the_same_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look(FolderSource(folder))
    monkeypatch.chdir(folder.parent)
    assert look(FolderSource(Path(folder.name))).reused


def test_the_digits_have_one_store_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = DigitsSource()
    scan(source, source.records[:20], GEOMETRY)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert scan(source, source.records[:20], GEOMETRY).reused


@pytest.mark.parametrize("with_canvases", [True, False])
def test_only_changed_images_are_decoded_again(noise_source, with_canvases: bool) -> None:
    options = {} if with_canvases else {"geometry": None}
    look(noise_source(30), **options)
    source = noise_source(33, seed=1)  # three more images; another seed changes the pixels of newly decoded images
    source.stamps["b/7"] = "touched"
    found = look(source, **options)
    assert source.read_count == 4
    assert not found.reused
    whole = look(noise_source(33), cache="ram")
    same = [row for row in range(30) if row != 7]
    assert [found.facts[row] for row in same] == [whole.facts[row] for row in same]
    np.testing.assert_array_equal(found.thumbnails[same], whole.thumbnails[same])
    np.testing.assert_array_equal(found.looks[same], whole.looks[same])
    assert found.facts[7] != whole.facts[7]
    if with_canvases:
        np.testing.assert_array_equal(pixels(found)[same], pixels(whole)[same])
        for row in (7, 30, 32):
            np.testing.assert_array_equal(pixels(found)[row].transpose(1, 2, 0), source.image(row))


def test_a_selection_is_copied_from_the_store_of_all_images(noise_source) -> None:
    look(noise_source(30))
    source = noise_source(30)
    found = scan(source, source.records[::3], GEOMETRY)
    assert source.read_count == 0
    np.testing.assert_array_equal(pixels(found)[2].transpose(1, 2, 0), source.image(6))


def test_canvases_are_added_to_the_store_of_facts(noise_source) -> None:
    facts = look(noise_source(5), geometry=None)
    assert facts.canvases is None
    found = look(noise_source(5))
    assert found.folder == facts.folder
    assert (found.facts, found.reused) == (facts.facts, False)
    assert look(noise_source(5)).reused
    assert len(stores()) == 1


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
def test_another_geometry_makes_other_canvases(folder: Path, change: dict[str, Any]) -> None:
    look(FolderSource(folder))
    geometry = GEOMETRY.model_copy(update=change)
    again = look(FolderSource(folder), geometry=geometry)
    assert not again.reused
    assert pixels(again).shape == (23, geometry.channels, geometry.image_size, geometry.image_size)
    assert look(FolderSource(folder)).reused


def test_mean_and_std_play_no_part_in_the_store(folder: Path) -> None:
    look(FolderSource(folder))
    assert look(FolderSource(folder), geometry=GEOMETRY.model_copy(update={"mean": (0.5, 0.5, 0.5)})).reused


def test_disk_memory_and_no_cache_give_the_same_canvases(folder: Path) -> None:
    (folder / "bees/bees-004.jpg").write_text("no image")
    disk = look(FolderSource(folder), cache="disk")
    shutil.rmtree(cache_folder())
    ram = look(FolderSource(folder), cache="ram")
    none = look(FolderSource(folder), cache="none")
    assert [found.folder is None for found in (disk, ram, none)] == [False, True, True]
    assert disk.facts == ram.facts == none.facts
    np.testing.assert_array_equal(pixels(ram), pixels(disk))
    assert isinstance(none.canvases, StreamedCanvases)
    good = np.array([row for row in range(23) if row not in none.bad])
    streamed = np.concatenate(list(none.canvases.batches(np.array_split(good, 4))))
    np.testing.assert_array_equal(streamed, pixels(disk)[good])
    assert [found.storage for found in (disk, ram, none)] == [
        "0 MB decoded, now in the cache",
        "0 MB decoded, in memory",
        "decoded again in every epoch",
    ]


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_memory_and_streaming_write_nothing(folder: Path, cache: Any) -> None:
    look(FolderSource(folder), cache=cache)
    assert not cache_folder().exists()


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_memory_and_streaming_use_an_existing_store(noise_source, cache: Any) -> None:
    look(noise_source(9))
    source = noise_source(9)
    look(source, cache=cache)
    assert source.read_count == 0


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_any_number_of_workers_gives_the_same_canvases(noise_source, cache: Any) -> None:
    one = look(noise_source(200), cache=cache, workers=1)
    canvases = np.array(one.canvases)
    shutil.rmtree(cache_folder(), ignore_errors=True)
    four = look(noise_source(200), cache=cache, workers=4)
    assert not four.reused
    assert four.facts == one.facts
    np.testing.assert_array_equal(pixels(four), canvases)


def test_unreadable_files_are_recorded_with_the_reason(folder: Path) -> None:
    (folder / "bees/bees-004.jpg").write_text("no image")
    (folder / "ants/ants-001.jpg").write_bytes(b"")
    for found in (look(FolderSource(folder)), look(FolderSource(folder)), look(FolderSource(folder), cache="ram")):
        assert found.bad == [1, 7]
        assert found.facts[1].error == "the file is empty"
        assert "not an image" in found.facts[7].error
        assert {found.facts[row].sha256 for row in found.bad} == {""}
        assert not pixels(found)[found.bad].any()
        assert all(pixels(found)[row].any() for row in range(23) if row not in found.bad)


def test_progress_counts_up_to_the_number_of_images(noise_source) -> None:
    calls: list[tuple[int, int]] = []
    look(noise_source(23), progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (23, 23)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    calls.clear()
    look(noise_source(24), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(24, 24)]  # 23 were in the cache
    calls.clear()
    look(noise_source(24), progress=lambda done, total: calls.append((done, total)))
    assert calls == []  # no image was decoded


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_an_interruption_leaves_no_store_and_no_thread(noise_source, cache: Any) -> None:
    def interrupt(index: int) -> None:
        if index == 150:
            raise KeyboardInterrupt

    threads, before = threading.active_count(), torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        look(noise_source(400, interrupt), cache=cache, workers=2)
    assert stores() == []
    assert (threading.active_count(), torch.get_num_threads()) == (threads, before)


KILLED = """
import os, signal, sys
from pathlib import Path
from cnnkit.data.store.scan import scan
from cnnkit.data.sources.folder import FolderSource
source = FolderSource(Path("images"))
scan(source, source.records, workers=2, progress=lambda done, total: (print(done, flush=True), os.kill(os.getpid(), signal.SIGKILL)))
"""


def test_a_killed_scan_leaves_no_store_and_no_process_and_the_next_one_cleans_up(image_folder) -> None:
    image_folder(images=20)
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL
    assert int(done.stdout) < 60
    assert [".part-" in name for name in stores()] == [True]
    patience = time.monotonic() + 10
    while _workers_of_this_test() and time.monotonic() < patience:
        time.sleep(0.1)
    assert _workers_of_this_test() == []
    found = look(FolderSource(Path("images")))
    assert found.folder is not None
    assert stores() == [found.folder.name]


def test_the_server_ends_after_many_images_and_starts_again(noise_source, monkeypatch: pytest.MonkeyPatch) -> None:
    look(noise_source(3, encoded=True), cache="ram")
    assert _server() is not None  # it stays after few images
    monkeypatch.setattr(scanning, "SERVER_STOP_IMAGES", 4)
    assert not look(noise_source(4, encoded=True), cache="ram").bad
    assert _server() is None
    assert not look(noise_source(3, encoded=True), cache="ram").bad
    assert _server() is not None


def _server() -> int | None:
    """Return the process from which workers are forked."""
    return forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]


def _workers_of_this_test() -> list[str]:
    """Processes that were forked from a server and have the test's own cache in their environment; other tests run beside this one."""
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if any("forkserver" in word for word in words) and process.environ().get("CNNKIT_CACHE") == os.environ["CNNKIT_CACHE"]:
                found.append(" ".join(words)[:80])
        except psutil.Error:
            continue
    return found


class FullDisk(ArrayWriter):
    """A writer on a disk of 3,000 bytes."""

    left = 3000
    number = errno.ENOSPC

    def put(self, rows: Any, values: Any) -> None:
        FullDisk.left -= values.nbytes
        if FullDisk.left < 0:
            raise OSError(self.number, os.strerror(self.number))
        super().put(rows, values)


@pytest.mark.parametrize(("number", "reason"), [(errno.ENOSPC, "no space is left"), (errno.EROFS, "Read-only file system")])
def test_a_full_disk_is_an_error_with_advice(noise_source, monkeypatch: pytest.MonkeyPatch, number: int, reason: str) -> None:
    monkeypatch.setattr(storing, "ArrayWriter", FullDisk)
    monkeypatch.setattr(FullDisk, "left", 3000)
    monkeypatch.setattr(FullDisk, "number", number)
    threads = threading.active_count()
    with pytest.raises(DataError) as caught:
        look(noise_source(300), cache="disk", workers=2)
    message = str(caught.value)
    assert message.startswith(f"{cache_folder() / 'stores'}: the store of decoded images (0 MB) cannot be written there: {reason};")
    assert "CNNKIT_CACHE" in message
    assert message.endswith("or use --cache ram or --cache none")
    assert stores() == []
    assert threading.active_count() == threads


def test_an_impossible_cache_folder_is_an_error_with_advice(noise_source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNNKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot be written there: Not a directory; free some space, point CNNKIT_CACHE to a folder"):
        look(noise_source(3), cache="disk")


def test_auto_falls_back_from_disk_to_memory_to_no_cache(noise_source, monkeypatch: pytest.MonkeyPatch) -> None:
    canvases = 10 * 3 * 16 * 16
    need = canvases + storing.facts_nbytes(10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, need))  # exactly the needed space, without a reserve
    found = look(noise_source(10))
    assert found.folder is None
    assert isinstance(found.canvases, np.ndarray)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(2 * canvases - 2))
    assert isinstance(look(noise_source(10)).canvases, StreamedCanvases)
    assert stores() == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 2 * need))
    assert look(noise_source(10)).folder is not None


def test_too_little_memory_is_refused_with_its_size(noise_source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(10_000))
    sentence = r"--cache ram: the decoded images take 0\.0 GB, more than half of .* use --cache disk, or --cache none"
    with pytest.raises(DataError, match=sentence):
        look(noise_source(10), cache="ram")


def test_auto_takes_memory_if_the_cache_is_read_only(noise_source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert look(noise_source(3)).folder is None


def test_auto_takes_memory_if_the_cache_is_a_file(noise_source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNNKIT_CACHE", str(tmp_path / "file"))
    assert look(noise_source(3)).folder is None


def test_auto_uses_an_existing_store_on_a_full_disk(noise_source, monkeypatch: pytest.MonkeyPatch) -> None:
    look(noise_source(3))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 0))
    assert look(noise_source(3)).reused


def _canvases(folder: Path) -> Path:
    return next(folder.glob("canvases-*.npy"))


def _truncate(folder: Path) -> None:
    _canvases(folder).write_bytes(_canvases(folder).read_bytes()[:-1])


def _spoil(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((folder / FACTS_FILE).read_text())
    change(index)
    (folder / FACTS_FILE).write_text(json.dumps(index))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated canvases": _truncate,
    "empty canvases": lambda folder: _canvases(folder).write_bytes(b""),
    "other canvases": lambda folder: np.save(_canvases(folder), np.zeros((5, 3, 8, 8), np.uint8)),
    "canvases of another type": lambda folder: np.save(_canvases(folder), np.zeros((5, 3, 16, 16), np.float32)),
    "pickled canvases": lambda folder: np.save(_canvases(folder), np.array([{}] * 5, object), allow_pickle=True),
    "no canvases": lambda folder: _canvases(folder).unlink(),
    "other thumbnails": lambda folder: np.save(folder / THUMBNAILS_FILE, np.zeros((5, 3), np.uint8)),
    "no thumbnails": lambda folder: (folder / THUMBNAILS_FILE).unlink(),
    "other looks": lambda folder: np.save(folder / LOOKS_FILE, np.zeros((5, 32, 32), np.uint8)),
    "no looks, as in an older store": lambda folder: (folder / LOOKS_FILE).unlink(),
    "broken index": lambda folder: (folder / FACTS_FILE).write_text('{"facts": {'),
    "index of nothing": lambda folder: (folder / FACTS_FILE).write_text("null"),
    "index of another decoder": lambda folder: _spoil(folder, lambda index: index.update(decoder=0)),
    "index without a column": lambda folder: _spoil(folder, lambda index: index["facts"].pop("mean")),
    "short column": lambda folder: _spoil(folder, lambda index: index["facts"]["mean"].pop()),
    "fewer paths": lambda folder: _spoil(folder, lambda index: (index["path"].pop(), index["stamp"].pop())),
    "index that is no text": lambda folder: (folder / FACTS_FILE).write_bytes(b"\xff\xfe"),
    "no index": lambda folder: (folder / FACTS_FILE).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_made_again(noise_source, damage: str) -> None:
    first = look(noise_source(5))
    canvases = np.array(first.canvases)
    assert first.folder is not None
    DAMAGES[damage](first.folder)
    second = look(noise_source(5))
    assert (second.reused, second.folder) == (False, first.folder)
    assert second.facts == first.facts
    np.testing.assert_array_equal(pixels(second), canvases)
    assert look(noise_source(5)).reused
    assert stores() == [first.folder.name]


def test_a_store_that_another_process_finished_first_is_kept(noise_source) -> None:
    def meanwhile(index: int) -> None:
        if index == 3:
            other = look(noise_source(5))
            assert other.folder is not None
            (other.folder / "made-first").touch()

    found = look(noise_source(5, meanwhile), workers=1)
    assert found.folder is not None
    assert (found.folder / "made-first").exists()
    assert stores() == [found.folder.name]


def test_an_unreadable_image_of_any_source_is_recorded(noise_source) -> None:
    def refuse(index: int) -> None:
        if index == 1:
            raise UndecodableError("smudged")

    assert [item.error for item in look(noise_source(3, refuse)).facts] == ["", "smudged", ""]


def test_contents_are_read_without_decoding_and_equal_those_of_the_scan(image_folder) -> None:
    folder = image_folder(["ants", "bees"], images=2)
    (folder / "ants/broken.jpg").write_bytes(b"no image")
    source = FolderSource(folder)
    seen: list[tuple[int, int]] = []
    read = find_contents(source, source.records, lambda done, total: seen.append((done, total)))
    assert seen == [(number, 5) for number in range(1, 6)]
    assert list(Path(os.environ["CNNKIT_CACHE"]).glob("stores/*")) == []
    facts = scan(source, source.records).facts
    assert [content for content, item in zip(read, facts, strict=True) if not item.error] == [
        item.sha256 for item in facts if not item.error
    ]
    assert find_contents(source, source.records) == [item.sha256 for item in facts]
    (folder / "bees/bees-000.jpg").unlink()
    assert find_contents(source, source.records)[-2:] == ["", read[-1]]


@pytest.mark.parametrize("sides", [(None, 20, 500), (500, None, 20)])
def test_facts_and_canvases_do_not_depend_on_the_drafts_of_an_earlier_scan(image_folder, sides: tuple[int | None, ...]) -> None:
    """Images of 800 x 720 px have their facts at half size, and canvases at full, half or a eighth of their size."""
    folder = image_folder({"ants": 1, "bees": 1}, size=(800, 720))
    source = FolderSource(folder)
    known = scan(source, source.records, cache="ram")
    for side in sides:
        geometry = GEOMETRY.model_copy(update={"draft_side": side})
        expected = make_canvases([read_image(folder / record.path, side) for record in source.records], geometry)
        for found in (look(source, geometry=geometry), look(source, geometry=geometry, cache="ram")):
            np.testing.assert_array_equal(pixels(found), expected)
            assert found.facts == known.facts
            np.testing.assert_array_equal(found.looks, known.looks)
        streamed = StreamedCanvases(source, source.records, known.facts, geometry, workers=1)
        np.testing.assert_array_equal(next(streamed.batches([np.arange(2)])), expected)
    assert [(item.width, item.height) for item in known.facts] == [(800, 720)] * 2
