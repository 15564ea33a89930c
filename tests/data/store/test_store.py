from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from cnnkit.data.source import open_source
from cnnkit.data.store import cache, journal, store
from cnnkit.data.store.index import ROW, ROWS_FILE, TEXTS_FILE
from cnnkit.data.store.scan import scan
from cnnkit.data.store.store import JOURNAL_FILE, StoredRows, cache_folder, open_rows


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


def test_a_store_is_rows_of_bytes_and_a_journal(noise_source, geometry) -> None:
    folder = made(noise_source(2), geometry)
    (head, entry), _ = journal.read(folder / JOURNAL_FILE)
    assert head == {"decoder": store.DECODER_VERSION, "source": "noise"}
    assert (entry["start"], entry["stop"], entry["words"]) == (0, 2, [])
    rows = np.fromfile(folder / ROWS_FILE, ROW)
    assert (rows["width"].tolist(), rows["end"].tolist()) == ([16, 16], [5, 10])
    assert (folder / TEXTS_FILE).read_bytes() == b"a/0\x001b/1\x001"
    canvases = np.fromfile(folder / store.canvas_file(geometry), np.uint8).reshape(2, 3, 16, 16)
    np.testing.assert_array_equal(canvases[1].transpose(1, 2, 0), noise_source(2).image(1))


def test_rows_in_another_order_are_read_like_an_array(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (6, 2, 3), np.uint8)
    values.tofile(tmp_path / "file")
    found = open_rows(tmp_path, "file", (2, 3), np.array([4, 0, 4]), 3)
    assert isinstance(found, StoredRows)
    assert (found.shape, found.nbytes, len(found)) == ((3, 2, 3), 18, 3)
    np.testing.assert_array_equal(found[:], values[[4, 0, 4]])
    np.testing.assert_array_equal(found[[1, 2]], values[[0, 4]])
    np.testing.assert_array_equal(open_rows(tmp_path, "file", (2, 3), None, 2), values[:2])
    assert open_rows(tmp_path, "file", (2, 3), None, 7) is None
    assert open_rows(tmp_path, "file", (2, 3), np.array([6]), 1) is None
    assert open_rows(tmp_path, "none", (2, 3), None, 1) is None


def test_an_open_store_outlives_its_removal(noise_source, geometry) -> None:
    source = noise_source(4)
    found = scan(source, source.records, geometry)
    cache.clear()
    assert isinstance(found.canvases, np.ndarray)
    np.testing.assert_array_equal(found.canvases[3].transpose(1, 2, 0), source.image(3))


def test_the_store_of_a_source_is_found_by_its_name(noise_source) -> None:
    source = noise_source(3)
    part, whole = scan(source, source.records[:2]).folder, made(source)
    assert [each.folder for each in store.stores_of(source.name)] == [part] == [whole]
    assert list(store.stores_of("another")) == []


def test_the_store_of_a_folder_is_found_after_it_is_gone(image_folder) -> None:
    source = open_source(str(image_folder(["ants", "bees"], images=2)))
    folder = made(source)
    shutil.rmtree(source.name)
    assert [each.folder for each in store.stores_of(source.name)] == [folder]
