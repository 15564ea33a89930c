from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnnkit.data.source import open_source
from cnnkit.data.store import store
from cnnkit.data.store.facts import Facts
from cnnkit.data.store.scan import scan
from cnnkit.data.store.store import MAX_STORES, ArrayWriter, cache_folder


def made(source, geometry=None) -> Path:
    folder = scan(source, source.records, geometry).folder
    assert folder is not None
    return folder


def test_the_cache_folder_is_the_systems_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(cache_folder()) == os.environ["CNNKIT_CACHE"]
    for unset in (lambda: monkeypatch.setenv("CNNKIT_CACHE", ""), lambda: monkeypatch.delenv("CNNKIT_CACHE")):
        unset()
        assert cache_folder().name == "cnnkit"
        assert cache_folder().is_absolute()


def test_a_store_is_plain_npy_and_json(noise_source, geometry) -> None:
    folder = made(noise_source(2), geometry)
    index = json.loads((folder / "facts.json").read_text())
    assert index["path"] == ["a/0", "b/1"]
    assert index["facts"]["width"] == [16, 16]
    canvases = np.load(folder / store.canvas_file(geometry), allow_pickle=False)
    np.testing.assert_array_equal(canvases[1].transpose(1, 2, 0), noise_source(2).image(1))


def test_facts_are_read_back_exactly(noise_source) -> None:
    source = noise_source(1)
    folder = made(source)
    odd = Facts("ab" * 32, "", 123, 7, 9, 0.1, 1 / 3, 2.5e-7, "JPEG", "I;16", 6, True, 93)
    store._write_facts(folder, source.name, [("a/\udcff\n", "x")], [odd])
    opened = store.open_store(folder)
    assert opened is not None
    assert opened.facts == (odd,)
    assert opened.keys == (("a/\udcff\n", "x"),)


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4, 5], [5, 3, 4, 0, 2, 1], [4, 5, 0, 1, 2, 3]])
def test_an_array_is_written_in_any_order(tmp_path: Path, rows: list[int]) -> None:
    values = np.random.default_rng(0).integers(0, 256, (6, 2, 3), np.uint8)
    with ArrayWriter(tmp_path / "a.npy", values.shape) as writer:
        for part in np.array_split(np.array(rows), 3):
            writer.put(part, values[part])
        writer.put(np.empty(0, np.int64), values[:0])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values)


def test_an_array_without_its_last_rows_is_not_opened(tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "a.npy", (4, 8)) as writer:
        writer.put(np.arange(2), np.ones((2, 8), np.uint8))
    assert store.open_array(tmp_path / "a.npy", (4, 8)) is None
    assert store.open_array(tmp_path / "none.npy", (4, 8)) is None


def test_old_stores_of_a_source_are_removed_and_other_sources_stay(noise_source) -> None:
    other = made(noise_source(3, name="other"))
    folders = []
    for stamp in range(MAX_STORES + 3):
        source = noise_source(3)
        source.stamps["a/0"] = str(stamp)
        folders.append(made(source))
        past = time.time() - 1000 + stamp
        os.utime(folders[-1], (past, past))
    assert [folder.exists() for folder in folders] == [False] * 3 + [True] * MAX_STORES
    assert other.exists()


def test_folders_of_dead_processes_are_removed_and_of_living_processes_stay(noise_source) -> None:
    folder = made(noise_source(2))
    dead = folder.with_name("x-y.part-999999999-abc")
    living = folder.with_name(f"x-y.part-{os.getpid()}-abc")
    strange = folder.with_name("x-y.part-abc")
    for left in (dead, living, strange):
        left.mkdir()
    made(noise_source(3))
    assert [left.exists() for left in (dead, living, strange)] == [False, True, True]


def test_stores_are_listed_by_last_use_with_their_size_and_cleared(noise_source, geometry) -> None:
    assert store.stores() == []
    assert store.clear() == 0
    old, new = made(noise_source(2)), made(noise_source(3), geometry)
    os.utime(old, (1000, 1000))
    left = old.with_name("x-y.part-1-abc")
    left.mkdir()
    os.utime(left, (10, 10))
    listed = store.stores()
    assert [(info.path, info.source, info.images) for info in listed] == [(new, "noise", 3), (old, "noise", 2), (left, "", 0)]
    assert listed[0].bytes == sum(file.stat().st_size for file in new.iterdir()) > 3 * 3 * 16 * 16
    assert replace(listed[1], used=0).used == 0
    assert listed[1].used == 1000
    assert store.clear() == sum(info.bytes for info in listed)
    assert store.stores() == []


def test_an_open_store_outlives_its_removal(noise_source, geometry) -> None:
    source = noise_source(4)
    found = scan(source, source.records, geometry)
    store.clear()
    assert isinstance(found.canvases, np.ndarray)
    np.testing.assert_array_equal(found.canvases[3].transpose(1, 2, 0), source.image(3))


def test_the_stores_of_a_source_are_found_by_its_name_last_used_first(noise_source) -> None:
    source = noise_source(3)
    part, whole = scan(source, source.records[:2]).folder, made(source)
    assert part is not None
    for age, folder in ((2, whole), (1, part)):
        os.utime(folder, (time.time() - age, time.time() - age))
    assert [each.folder for each in store.stores_of(source.name)] == [part, whole]
    assert list(store.stores_of("another")) == []


def test_the_stores_of_a_folder_are_found_after_it_is_gone(image_folder) -> None:
    source = open_source(str(image_folder(["ants", "bees"], images=2)))
    folder = made(source)
    shutil.rmtree(source.name)
    assert [each.folder for each in store.stores_of(source.name)] == [folder]
