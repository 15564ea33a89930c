from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from cnnkit.data.shards import tar_index
from cnnkit.data.shards.files import open_files
from cnnkit.data.shards.tar_index import TarIndex, shard_index
from cnnkit.data.store.cache import index_folder
from cnnkit.errors import DataError


def index(path: Path) -> TarIndex:
    (file,) = open_files(str(path), str(path))
    return shard_index(file)


def rows(found: TarIndex) -> list[tuple[str, str | None]]:
    return list(zip(found.paths, found.labels, strict=True))


def test_members_of_one_key_are_a_sample(write_tar, tmp_path: Path) -> None:
    members = {
        "a/1.jpg": b"jpg",
        "a/1.cls": b" 7\n",
        "2.seg.png": b"mask",
        "2.json": b'{"label": 3, "width": 5}',
        "2.PNG": b"png",
        "2.cls": b"4",
        "2.txt": b"no",
        "3.webp": b"webp",
        "3.txt": b"caf\xc3\xa9",
    }
    found = index(write_tar(tmp_path / "0.tar", members))
    assert rows(found) == [("a/1.jpg", "7"), ("2.PNG", "4"), ("3.webp", "café")]
    stored = (tmp_path / "0.tar").read_bytes()
    assert [stored[start : start + size] for start, size in zip(found.starts, found.sizes, strict=True)] == [b"jpg", b"png", b"webp"]
    assert (found.left_out, found.kinds) == ({}, {".cls": 2, ".txt": 1})


@pytest.mark.parametrize(
    ("document", "label"),
    [
        (b'{"label": 0}', "0"),
        (b'{"class": "cat", "label": null}', "cat"),
        (b'"dog"', "dog"),
        (b"5", "5"),
        (b'{"caption": "a cat"}', None),
        (b"{", None),
        (b'{"label": [1]}', None),
    ],
)
def test_a_json_member_holds_its_label_in_a_field(write_tar, tmp_path: Path, document: bytes, label: str | None) -> None:
    found = index(write_tar(tmp_path / "0.tar", {"1.jpg": b"x", "1.json": document, "2.jpg": b"x", "2.cls": b"z"}))
    assert dict(rows(found)).get("1.jpg") == label


def test_samples_without_image_or_label_and_repeated_keys_are_counted(write_tar, tmp_path: Path) -> None:
    members = {
        "1.jpg": b"",
        "2.cls": b"5",
        "3.jpg": b"",
        "3.png": b"",
        "3.cls": b"1",
        "../4.jpg": b"",
        "4.cls": b"1",
        ".5.jpg": b"",
        "5.cls": b"",
    }
    found = index(write_tar(tmp_path / "0.tar", members))
    assert rows(found) == [("3.jpg", "1")]
    assert found.left_out == {
        "without a label": 1,
        "with a repeated key": 1,
        "with a path that leads out of the archive": 1,
    }


def test_an_index_is_made_once_for_a_state_of_the_shard(write_tar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "0.tar", {"1.jpg": b"x", "1.cls": b"a", "2.jpg": b"y", "2.cls": b"b"})
    first = index(path)
    assert len(list(index_folder().iterdir())) == 1
    with monkeypatch.context() as patched:
        patched.setattr(tar_index, "list_members", lambda *_: pytest.fail("the shard was listed again"))
        again = index(path)
    assert rows(again) == rows(first) == [("1.jpg", "a"), ("2.jpg", "b")]
    assert (again.starts.tolist(), again.sizes.tolist(), again.kinds) == (first.starts.tolist(), first.sizes.tolist(), first.kinds)
    write_tar(path, {"3.jpg": b"x", "3.cls": b"a"})
    assert rows(index(path)) == [("3.jpg", "a")]
    assert len(list(index_folder().iterdir())) == 1


@pytest.mark.parametrize("damage", [b"", b"PK", b"x" * 3000])
def test_a_damaged_index_is_made_again(write_tar, tmp_path: Path, damage: bytes) -> None:
    path = write_tar(tmp_path / "0.tar", {"1.jpg": b"x", "1.cls": b"a"})
    index(path)
    (file,) = index_folder().iterdir()
    file.write_bytes(damage)
    assert rows(index(path)) == [("1.jpg", "a")]
    assert file.stat().st_size > 1000


def test_without_a_place_for_indexes_the_shard_is_listed(write_tar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNNKIT_CACHE", str(tmp_path / "file"))
    assert len(index(write_tar(tmp_path / "0.tar", {"1.jpg": b"x", "1.cls": b"a"})).paths) == 1


def test_damaged_and_compressed_shards_are_errors_that_name_them(write_tar, jpeg, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", {f"{key}.jpg": jpeg(key) for key in range(9)})
    whole = path.read_bytes()
    for name, content in {"half": whole[:3000], "text": b"no tar" * 300}.items():
        (tmp_path / f"{name}.tar").write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}\.tar: damaged, or no tar: .*; test it with: tar -tf "):
            index(tmp_path / f"{name}.tar")
    (tmp_path / "1.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(
        DataError, match=r"1\.tar: compressed with gzip, so its images cannot be read by offset; unpack it to a plain \.tar"
    ):
        index(tmp_path / "1.tar")


def test_a_shard_that_changes_while_it_is_listed_is_an_error(write_tar, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", {})
    (file,) = open_files(str(path), "x")
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"0\.tar: cannot be read: the archive has changed since it was listed"):
        shard_index(file)
