from __future__ import annotations

from pathlib import Path

import pytest

from cnnkit.data.shards.files import open_files, read_small, shared_folder
from cnnkit.errors import DataError


def test_files_have_names_without_the_folders_that_all_share(tmp_path: Path) -> None:
    assert shared_folder(["a/b/train/0.tar", "a/b/val/0.tar"]) == "a/b/"
    assert shared_folder(["a/bc/0.tar", "a/bd/0.tar"]) == "a/"
    assert shared_folder(["0.tar", "a/1.tar"]) == ""
    (tmp_path / "0.tar").write_bytes(b"abcdef")
    (file,) = open_files(f"{tmp_path}/0.tar", "0.tar")
    assert (file.name, file.spans.size) == ("0.tar", 6)
    with file.open() as opened:
        opened.seek(2)
        assert (opened.read(2), opened.tell(), opened.seek(0, 2), opened.read(1)) == (b"cd", 4, 6, b"")


def test_missing_files_of_a_range_are_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "1.tar").touch()
    with pytest.raises(
        DataError, match=r"--data x: 4 of 5 files are missing: .*/0\.tar, .*/2\.tar, .*/3\.tar and 1 more; correct the range"
    ):
        open_files(f"{tmp_path}/{{0..4}}.tar", "x")
    with pytest.raises(DataError, match=r"--data x: the file is missing: .*/0\.tar"):
        open_files(f"{tmp_path}/0.tar", "x")


def test_a_file_that_changes_while_it_is_open_raises_an_os_error(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    path.write_bytes(b"abcdef")
    (file,) = open_files(str(path), "0.tar")
    path.write_bytes(b"abcdefg")
    with file.open() as opened, pytest.raises(OSError, match="the archive has changed since it was listed"):
        opened.read(1)


def test_a_small_file_is_read_whole_and_a_large_one_is_no_list(tmp_path: Path) -> None:
    assert read_small(str(tmp_path / "gone")) is None
    with (tmp_path / "large").open("wb") as file:
        file.truncate(10_000_001)
    with pytest.raises(DataError, match=r"large: 10 MB are too much for a list of class names"):
        read_small(str(tmp_path / "large"))
