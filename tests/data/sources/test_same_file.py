from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnkit.data.sources import same_file
from cnnkit.data.sources.same_file import same_files


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a folder with the files ``a/1.jpg`` and ``a/2.jpg``."""
    (tmp_path / "d" / "a").mkdir(parents=True)
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "d" / "a" / name).write_bytes(b"x")
    return tmp_path / "d"


def test_spellings_of_one_path_name_one_file(files: Path) -> None:
    assert same_files(str(files), ["a/1.jpg", "a/../a/1.jpg", "a/2.jpg", f"{files}/a/1.jpg", "../d/a/2.jpg"]) == {1: 0, 3: 0, 4: 2}


def test_links_to_files_and_folders_name_one_file(files: Path) -> None:
    (files / "b").symlink_to(files / "a")
    (files / "3.jpg").symlink_to(files / "a" / "1.jpg")
    assert same_files(str(files), ["3.jpg", "a/1.jpg", "a/2.jpg", "b/2.jpg", "b/1.jpg"]) == {1: 0, 3: 2, 4: 0}


def test_paths_without_files_are_compared_as_text() -> None:
    assert same_files("nowhere", ["a.jpg", "b.jpg", "a.jpg", "/c.jpg", "c.jpg", "x\0/a.jpg"]) == {2: 0}


def test_names_that_differ_by_case_are_one_file_only_where_the_disk_says_so(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "a" / "1.JPG").write_bytes(b"y")
    paths = ["a/1.jpg", "a/1.JPG", "a/1.JPG", "a/1.jpg"]
    assert same_files(str(files), paths) == {2: 1, 3: 0}
    monkeypatch.setattr(os.path, "samefile", lambda one, other: one.lower() == other.lower())  # as a disk of macOS or Windows
    assert same_files(str(files), paths) == {1: 0, 2: 0, 3: 0}


def test_composed_and_decomposed_names_are_one_file_where_the_disk_says_so(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ["caf\u00e9.jpg", "cafe\u0301.jpg"]
    assert same_files(str(files), paths) == {}
    monkeypatch.setattr(os.path, "samefile", lambda *_: True)
    assert same_files(str(files), paths) == {1: 0}


def test_no_file_is_looked_at_unless_names_collide(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(same_file, "_is_same", lambda _, one, other: asked.append(other) or one == other)
    same_files(str(files), [f"a/{number}.jpg" for number in range(9)])
    assert asked == []
