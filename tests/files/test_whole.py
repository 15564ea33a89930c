from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cnnkit.files import fingerprint, whole_file


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with whole_file(path) as part:
        part.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_only_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="No such file"), whole_file(path) as part:
        part.write_text((tmp_path / "none").read_text())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"), whole_file(tmp_path / "a") as part:
        part.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_fingerprint_depends_on_the_content_alone(tmp_path: Path) -> None:
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    assert fingerprint(tmp_path / "a") == hashlib.sha256(b"one").hexdigest()
    assert fingerprint(tmp_path / "b") == fingerprint(tmp_path / "a") != fingerprint(tmp_path / "c")
