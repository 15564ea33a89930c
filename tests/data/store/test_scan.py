from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
from cnnkit.data.store import filling, journal, writer
from cnnkit.data.store import scan as scan_module
from cnnkit.data.store import store as storing
from cnnkit.data.store.index import ROWS_FILE, TEXTS_FILE
from cnnkit.data.store.scan import Scan, find_contents, scan
from cnnkit.data.store.store import JOURNAL_FILE, LOOKS_FILE, THUMBNAILS_FILE, StoredRows, cache_folder, canvas_file
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
    assert isinstance(found.canvases, np.ndarray | StoredRows)
    return np.asarray(found.canvases[:])


def stores() -> list[str]:
    folder = cache_folder() / "stores"
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.exists() else []


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
    assert names == sorted([canvas_file(GEOMETRY), "in-use", JOURNAL_FILE, LOOKS_FILE, THUMBNAILS_FILE, ROWS_FILE, TEXTS_FILE])


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
    np.testing.assert_array_equal(found.looks[np.array(same)], whole.looks[np.array(same)])
    assert found.facts[7] != whole.facts[7]
    if with_canvases:
        np.testing.assert_array_equal(pixels(found)[same], pixels(whole)[same])
        for row in (7, 30, 32):
            np.testing.assert_array_equal(pixels(found)[row].transpose(1, 2, 0), source.image(row))


def test_a_selection_is_taken_from_the_store_of_all_images(noise_source) -> None:
    look(noise_source(30))
    source = noise_source(30)
    found = scan(source, source.records[::3], GEOMETRY)
    assert (source.read_count, found.reused, len(stores())) == (0, True, 1)
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


def _interrupt_at(number: int) -> Callable[[int], None]:
    """Return a callback of a source that interrupts the scan when the image `number` is read."""

    def interrupt(index: int) -> None:
        if index == number:
            raise KeyboardInterrupt

    return interrupt


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_an_interruption_leaves_no_thread(noise_source, cache: Any) -> None:
    threads, before = threading.active_count(), torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        look(noise_source(400, _interrupt_at(150)), cache=cache, workers=2)
    assert len(stores()) == (cache == "disk")
    assert (threading.active_count(), torch.get_num_threads()) == (threads, before)


def test_an_interrupted_scan_goes_on_where_it_stopped(noise_source) -> None:
    counts: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        look(noise_source(400, _interrupt_at(350)), workers=2, progress=lambda done, _: counts.append(done))
    assert counts[-1] > 0
    source = noise_source(400, seed=1)  # images that are decoded now have other pixels
    found = look(source)
    assert source.read_count == 400 - counts[-1]
    kept, made = look(noise_source(400), cache="ram"), pixels(found)
    for row in (0, counts[-1] - 1):
        np.testing.assert_array_equal(made[row].transpose(1, 2, 0), noise_source(1).image(row))
    for row in (counts[-1], 399):
        np.testing.assert_array_equal(made[row].transpose(1, 2, 0), source.image(row))
    assert kept.facts == found.facts  # the rows of the store


def test_interrupted_canvases_go_on_where_they_stopped(noise_source) -> None:
    facts = look(noise_source(400), geometry=None).facts
    counts: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        look(noise_source(400, _interrupt_at(350)), workers=2, progress=lambda done, _: counts.append(done))
    source = noise_source(400)
    found = look(source)
    assert (source.read_count, found.facts) == (400 - counts[-1], facts)
    np.testing.assert_array_equal(pixels(found), pixels(look(noise_source(400), cache="ram")))


KILLED = """
import os, signal, sys
from pathlib import Path
from cnnkit.data.store import writer
from cnnkit.data.store.scan import scan
from cnnkit.data.sources.folder import FolderSource
writer.COMMIT_SECONDS = 0
source = FolderSource(Path("images"))
def progress(done, total):
    print(done, flush=True)
    if done > 20:
        os.kill(os.getpid(), signal.SIGKILL)
scan(source, source.records, workers=2, progress=progress)
"""


def test_a_killed_scan_leaves_its_rows_and_no_process(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    image_folder(images=20)
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL
    decoded = int(done.stdout.split()[-1])
    assert 20 < decoded < 60
    patience = time.monotonic() + 10
    while _workers_of_this_test() and time.monotonic() < patience:
        time.sleep(0.1)
    assert _workers_of_this_test() == []
    reads: list[str] = []
    read = FolderSource.read
    monkeypatch.setattr(FolderSource, "read", lambda source, record: reads.append(record.path) or read(source, record))
    found = scan(FolderSource(Path("images")), FolderSource(Path("images")).records)
    assert len(reads) == 60 - decoded
    assert found.folder is not None
    assert stores() == [found.folder.name]
    assert found.facts == look(FolderSource(Path("images")), cache="ram").facts


def test_canvases_of_another_geometry_come_along(noise_source) -> None:
    other = GEOMETRY.model_copy(update={"image_size": 8})
    source = noise_source(5)
    scan(source, source.records, also=(other, GEOMETRY))
    source.read_count = 0
    for geometry in (GEOMETRY, other):
        found = look(source, geometry=geometry)
        assert (found.reused, pixels(found).shape) == (True, (5, 3, geometry.image_size, geometry.image_size))
    assert source.read_count == 0
    np.testing.assert_array_equal(pixels(look(source))[2].transpose(1, 2, 0), source.image(2))


def test_new_images_get_the_canvases_that_most_images_have(noise_source) -> None:
    look(noise_source(5))
    source = noise_source(6)
    scan(source, source.records)
    assert source.read_count == 1
    assert look(source).reused
    assert source.read_count == 1


def test_an_image_that_changed_under_the_same_stamp_is_new(noise_source) -> None:
    look(noise_source(5), geometry=None)
    source = noise_source(5, seed=1)
    found = look(source)
    assert found.facts == look(noise_source(5, seed=1), cache="ram", geometry=None).facts
    np.testing.assert_array_equal(pixels(found)[4].transpose(1, 2, 0), source.image(4))
    assert look(noise_source(5, seed=1)).reused


def test_the_server_ends_after_many_images_and_starts_again(noise_source, monkeypatch: pytest.MonkeyPatch) -> None:
    look(noise_source(3, encoded=True), cache="ram")
    assert _server() is not None  # it stays after few images
    monkeypatch.setattr(filling, "SERVER_STOP_IMAGES", 4)
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


class FullDisk(writer.RowFile):
    """A file on a disk of 200,000 bytes."""

    left = 200_000
    number = errno.ENOSPC

    def put(self, rows: Any, values: Any) -> None:
        FullDisk.left -= values.nbytes
        if FullDisk.left < 0:
            raise OSError(self.number, os.strerror(self.number))
        super().put(rows, values)


@pytest.mark.parametrize(("number", "reason"), [(errno.ENOSPC, "no space is left"), (errno.EROFS, "Read-only file system")])
def test_a_full_disk_is_an_error_with_advice(noise_source, monkeypatch: pytest.MonkeyPatch, number: int, reason: str) -> None:
    monkeypatch.setattr(writer, "RowFile", FullDisk)
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 0)
    monkeypatch.setattr(FullDisk, "left", 200_000)
    monkeypatch.setattr(FullDisk, "number", number)
    threads = threading.active_count()
    with pytest.raises(DataError) as caught:
        look(noise_source(300), cache="disk", workers=2)
    message = str(caught.value)
    assert message.startswith(f"{cache_folder() / 'stores'}: the store of decoded images (2 MB) cannot be written there: {reason};")
    assert "CNNKIT_CACHE" in message
    assert message.endswith("or use --cache ram or --cache none")
    assert threading.active_count() == threads
    monkeypatch.setattr(FullDisk, "left", 10**9)
    source = noise_source(300)
    found = look(source)
    assert 0 < source.read_count < 300
    np.testing.assert_array_equal(pixels(found), pixels(look(noise_source(300), cache="ram")))


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
    return next(folder.glob("canvases-*"))


def _cut(file: Path, size: int = 1) -> None:
    file.write_bytes(file.read_bytes()[:-size])


def _spoil(folder: Path, change: Callable[[list[Any]], object]) -> None:
    entries, _ = journal.read(folder / JOURNAL_FILE)
    change(entries)
    (folder / JOURNAL_FILE).write_bytes(b"".join(map(journal.encode, entries)))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated canvases": lambda folder: _cut(_canvases(folder)),
    "empty canvases": lambda folder: _canvases(folder).write_bytes(b""),
    "no canvases": lambda folder: _canvases(folder).unlink(),
    "truncated thumbnails": lambda folder: _cut(folder / THUMBNAILS_FILE),
    "no thumbnails": lambda folder: (folder / THUMBNAILS_FILE).unlink(),
    "truncated looks": lambda folder: _cut(folder / LOOKS_FILE),
    "no looks": lambda folder: (folder / LOOKS_FILE).unlink(),
    "torn line": lambda folder: _cut(folder / JOURNAL_FILE),
    "changed line": lambda folder: (folder / JOURNAL_FILE).write_bytes((folder / JOURNAL_FILE).read_bytes().replace(b"stop", b"stab")),
    "empty journal": lambda folder: (folder / JOURNAL_FILE).write_bytes(b""),
    "journal of nothing": lambda folder: (folder / JOURNAL_FILE).write_bytes(journal.encode({})),
    "journal of another decoder": lambda folder: _spoil(folder, lambda entries: entries[0].update(decoder=0)),
    "journal without a column": lambda folder: _spoil(folder, lambda entries: entries[1].pop("words")),
    "another checksum": lambda folder: _spoil(folder, lambda entries: entries[1].update(checksum=0)),
    "truncated rows": lambda folder: _cut(folder / ROWS_FILE),
    "changed rows": lambda folder: (folder / ROWS_FILE).write_bytes(bytes(len((folder / ROWS_FILE).read_bytes()))),
    "no rows": lambda folder: (folder / ROWS_FILE).unlink(),
    "truncated texts": lambda folder: _cut(folder / TEXTS_FILE),
    "changed texts": lambda folder: (folder / TEXTS_FILE).write_bytes((folder / TEXTS_FILE).read_bytes().replace(b"a/0", b"a/9")),
    "missing line": lambda folder: _spoil(folder, lambda entries: entries[1].update(start=3)),
    "unknown canvases": lambda folder: _spoil(folder, lambda entries: entries[1]["filled"].update(other=[[0, 5]])),
    "journal that is no text": lambda folder: (folder / JOURNAL_FILE).write_bytes(b"\xff\xfe"),
    "no journal": lambda folder: (folder / JOURNAL_FILE).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_made_again(noise_source, damage: str) -> None:
    first = look(noise_source(5))
    canvases, facts = np.array(first.canvases), tuple(first.facts)
    assert first.folder is not None
    DAMAGES[damage](first.folder)
    second = look(noise_source(5))
    assert not second.reused
    assert second.facts == facts
    np.testing.assert_array_equal(pixels(second), canvases)
    assert look(noise_source(5)).reused


def test_two_scans_of_one_source_at_a_time_decode_every_image_once(noise_source) -> None:
    sources = [noise_source(300), noise_source(300)]
    with ThreadPoolExecutor(2) as threads:
        scans = list(threads.map(look, sources))
    assert sorted(source.read_count for source in sources) == [0, 300]
    assert scans[0].facts == scans[1].facts
    np.testing.assert_array_equal(pixels(scans[0]), pixels(scans[1]))


def test_a_scan_does_not_wait_for_a_stopped_process(noise_source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PATIENCE_SECONDS", 0)
    source = noise_source(5)
    with writer.open_writer(source.name, ()):
        found = look(source)
    assert (found.folder, found.reused) == (None, False)
    np.testing.assert_array_equal(pixels(found)[4].transpose(1, 2, 0), source.image(4))


@pytest.mark.slow
def test_concurrent_scans_of_growing_sources_never_mix_images(noise_source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Selections of classes, added and changed images, several processes at a time."""
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 0)

    def run(seed: int) -> bool:
        random = np.random.default_rng(seed)
        source = noise_source(int(random.integers(20, 200)))
        records = [record for record in source.records if random.random() < 0.8]
        found = scan(source, records, GEOMETRY.model_copy(update={"image_size": 16, "crop": float(random.choice([0.5, 1.0]))}))
        whole = scan(source, records, None, cache="none")
        return found.facts == whole.facts

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(run, range(40)))


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
    assert stores() == []
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


class Told:
    """A progress that keeps the sentences it is given."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, *_: int) -> None:
        return

    def say(self, text: str) -> None:
        self.said.append(text)


def test_a_long_decoding_is_announced_once_with_images_hours_and_bytes(noise_source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "SAMPLE_SECONDS", 0.0)
    told = Told()
    look(noise_source(30), progress=told)
    assert told.said == []
    monkeypatch.setattr(filling, "LONG_SECONDS", 0.0)
    look(noise_source(30, name="long"), progress=told)
    (said,) = told.said
    pattern = (
        r"decoding 30 images takes about 0\.0 hours on this machine \([\d,]+ images/s\), and 0\.0 GB in the cache; "
        r"an interrupted command goes on where it stopped"
    )
    assert re.fullmatch(pattern, said)
    look(noise_source(30, name="nowhere"), progress=lambda *_: None)


def test_the_announced_bytes_include_canvases_for_later_commands(noise_source, monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[int] = []

    def missing(*given: Any) -> filling.Missing:
        added.append(given[-1])
        return filling.Missing(*given)

    monkeypatch.setattr(scan_module, "Missing", missing)
    source = noise_source(30)
    scan(source, source.records, None, also=[GEOMETRY])
    look(noise_source(30, name="other"))
    one_canvas = 3 * GEOMETRY.image_size**2
    assert added == [storing.facts_nbytes(30) + 30 * one_canvas] * 2


def test_a_limit_of_the_user_is_kept_before_decoding(noise_source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNKIT_CACHE_LIMIT", "0.1MB")
    with pytest.raises(
        DataError, match=r"--cache disk: the decoded images take 0 MB, more than the limit of the cache, 0 MB \(raise it with: "
    ):
        look(noise_source(30), cache="disk")
    told = Told()
    found = look(noise_source(30), progress=told)
    assert found.folder is None
    assert told.said[0].endswith("MB), so they are kept in memory")
    monkeypatch.setenv("CNNKIT_CACHE_LIMIT", "100MB")
    assert look(noise_source(30), cache="disk").folder is not None
