from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cnnkit.data.image import UndecodableError
from cnnkit.data.source import Record, empty_classes, open_source
from cnnkit.data.sources.folder import FolderSource, check_outside, image_files, sorted_files
from cnnkit.errors import ConfigError, DataError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def labels(source: FolderSource) -> Counter[str]:
    return Counter(record.label for record in source.records)


def test_class_folders_give_records_with_relative_paths(image_folder) -> None:
    root: Path = image_folder({"ants": 2, "bees": 1})
    source = open_source(str(root))
    assert list(source.records) == [
        Record("ants/ants-000.jpg", "ants"),
        Record("ants/ants-001.jpg", "ants"),
        Record("bees/bees-000.jpg", "bees"),
    ]
    assert (source.name, tuple(source.notes)) == (str(root), ())


def test_a_slash_at_the_end_of_the_folder_changes_no_path(image_folder) -> None:
    root: Path = image_folder()
    assert open_source(f"{root}/").records == open_source(str(root)).records


def test_hidden_files_and_litter_are_ignored_without_a_note(tmp_path: Path) -> None:
    root = tmp_path / "d"
    touch(root / "ants/1.jpg", root / "ants/._1.jpg", root / "ants/.DS_Store", root / "ants/Thumbs.db", root / "ants/desktop.ini")
    touch(root / ".git/1.jpg", root / "__MACOSX/ants/1.jpg", root / "ants/@eaDir/1.jpg", root / "ants/.thumbnails/1.jpg")
    touch(root / "ants/.ipynb_checkpoints/1-checkpoint.jpg", root / ".ipynb_checkpoints/1.jpg")
    source = FolderSource(root)
    assert [record.path for record in source.records] == ["ants/1.jpg"]
    assert source.notes == ()


def test_left_out_files_are_noted(tmp_path: Path) -> None:
    touch(tmp_path / "d/ants/1.jpg", tmp_path / "d/ants/1.txt", tmp_path / "d/loose.jpg", tmp_path / "d/.hidden.jpg")
    assert FolderSource(tmp_path / "d").notes == (
        "1 image outside of class folders was left out",
        "1 file without an image was left out (1 .txt)",
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("gone", "--data gone: no such folder; expected a folder of class folders, or 'digits'"),
        ("file.txt", r"--data file\.txt: not a folder; expected a folder of class folders, a \.csv, or a \.zip or \.tar of such a folder"),
        ("empty", "--data empty: no images found in class folders; .*; it is empty"),
    ],
)
def test_a_path_without_class_folders_is_refused(tmp_path: Path, data: str, message: str) -> None:
    touch(tmp_path / "file.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        FolderSource(Path(data))


def test_a_symlink_loop_in_a_class_is_walked_once(tmp_path: Path) -> None:
    root = tmp_path / "d"
    touch(root / "ants/1.jpg", root / "bees/1.jpg")
    (root / "ants/again").symlink_to(root / "ants")
    assert labels(FolderSource(root)) == {"ants": 1, "bees": 1}


def test_a_link_to_a_folder_above_makes_no_class(tmp_path: Path) -> None:
    root = tmp_path / "d"
    touch(root / "ants/1.jpg", root / "bees/1.jpg", tmp_path / "elsewhere/1.jpg")
    (root / "all").symlink_to(root)
    (root / "up").symlink_to(tmp_path)
    (root / "ants/up").symlink_to(root)
    assert labels(FolderSource(root)) == {"ants": 1, "bees": 1}


def test_a_link_to_itself_is_no_folder(tmp_path: Path) -> None:
    root = tmp_path / "d"
    touch(root / "ants/1.jpg")
    (root / "ants/self.jpg").symlink_to(root / "ants/self.jpg")
    source = FolderSource(root)
    assert labels(source) == {"ants": 2}
    with pytest.raises(UndecodableError, match=r"(?i)symbolic links"):
        source.read(source.records[1])


def test_a_linked_class_folder_is_followed(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere/1.jpg", tmp_path / "d/ants/1.jpg")
    (tmp_path / "d/bees").symlink_to(tmp_path / "elsewhere")
    assert labels(FolderSource(tmp_path / "d")) == {"ants": 1, "bees": 1}


@pytest.mark.parametrize("closed", ["d", "d/ants", "d/ants/2019"])
def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    root = tmp_path / "d"
    touch(root / "ants/2019/1.jpg", root / "bees/1.jpg")
    scandir = os.scandir

    def look(path: Any = ".") -> Any:
        if Path(path) == tmp_path / closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", look)
    with pytest.raises(DataError, match=f"{closed}: cannot be listed: Permission denied"):
        FolderSource(root)


def test_reading_gives_the_bytes_of_the_file(image_folder) -> None:
    root: Path = image_folder()
    source = FolderSource(root)
    assert source.read(source.records[0]) == (root / source.records[0].path).read_bytes()


def test_a_deleted_file_is_unreadable_and_has_a_stamp(image_folder) -> None:
    root: Path = image_folder()
    source = FolderSource(root)
    before = source.stamp(source.records[0])
    (root / source.records[0].path).unlink()
    assert source.stamp(source.records[0]) not in {before, source.stamp(source.records[1])}
    with pytest.raises(UndecodableError, match="No such file or directory"):
        source.read(source.records[0])


def test_the_stamp_changes_with_the_file(image_folder) -> None:
    root: Path = image_folder()
    source = FolderSource(root)
    file = root / source.records[0].path
    before = source.stamp(source.records[0])
    assert source.stamp(source.records[0]) == before
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert source.stamp(source.records[0]) != before


def test_a_pipe_is_unreadable_without_waiting(tmp_path: Path) -> None:
    touch(tmp_path / "d/ants/1.jpg")
    os.mkfifo(tmp_path / "d/ants/2.jpg")
    source = FolderSource(tmp_path / "d")
    with pytest.raises(UndecodableError, match="not a regular file"):
        source.read(source.records[1])


ODD_NAMES = [b"caf\xe9.jpg", b"line\nbreak.jpg", b'quote".jpg', b"comma,semicolon;.jpg", "ant \N{ANT}.jpg".encode(), b" space.jpg"]


def test_files_of_any_name_are_listed_and_read(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "d") + b"/kaf\xe9"
    Path(os.fsdecode(folder)).mkdir(parents=True)
    for number, name in enumerate(ODD_NAMES):
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(bytes([number]))
    source = FolderSource(tmp_path / "d")
    assert {source.read(record) for record in source.records} == {bytes([number]) for number in range(len(ODD_NAMES))}
    assert {os.fsencode(record.path) for record in source.records} == {b"kaf\xe9/" + name for name in ODD_NAMES}
    assert os.fsencode(source.records[0].label) == b"kaf\xe9"


def test_image_files_are_listed_in_natural_order(tmp_path: Path) -> None:
    touch(*(tmp_path / "d/ants" / f"{number}.jpg" for number in (10, 9, 1)), tmp_path / "d/ants/notes.txt", tmp_path / "d/ants/.x.jpg")
    assert [file.name for file in image_files(tmp_path / "d")] == ["1.jpg", "9.jpg", "10.jpg"]
    assert [record.path for record in FolderSource(tmp_path / "d").records] == ["ants/1.jpg", "ants/9.jpg", "ants/10.jpg"]


def test_an_empty_class_folder_is_known_to_the_source(image_folder) -> None:
    root: Path = image_folder(("ants", "bees"), 1)
    (root / "birds").mkdir()
    (root / "wasps" / "deep").mkdir(parents=True)
    assert empty_classes(FolderSource(root)) == {"birds": 0, "wasps": 0}
    assert empty_classes(open_source("digits")) == {}


def test_the_files_of_a_folder_are_told_apart_and_cnnkits_own_are_left_out(tmp_path: Path) -> None:
    for name in (
        "10.jpg",
        "9.jpg",
        "b.tga",
        "sub/1.png",
        "runs/001-a/config.json",
        "runs/001-a/split.csv",
        "runs/001-a/curves.png",
        ".x.jpg",
    ):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).touch()
    assert sorted_files(tmp_path / "d") == (["9.jpg", "10.jpg", "sub/1.png"], ["b.tga"])


def test_a_run_inside_the_data_is_no_class(image_folder) -> None:
    root = image_folder(["ants", "bees"], 2)
    run = root / "runs" / "best so far"
    run.mkdir(parents=True)
    for name in ("config.json", "split.csv"):
        (run / name).touch()
    (run / "curves.png").write_bytes((root / "ants/ants-000.jpg").read_bytes())
    source = FolderSource(root)
    assert {record.label for record in source.records} == {"ants", "bees"}
    assert source.notes == ("1 image in folders that cnnkit wrote was left out: runs/best so far",)


def test_output_inside_the_data_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "images" / "cats").mkdir(parents=True)
    for out in ("images", "images/runs", "images/../images/cats", "images/cats/a.png"):
        with pytest.raises(ConfigError, match=rf"--out {out}: lies inside the data images, .*such as --out {tmp_path}/\w+"):
            check_outside(Path(out), "images")
    with pytest.raises(ConfigError, match=r"^--sheet images/cats/s\.png: .* its image would count as data; .* such as --sheet"):
        check_outside(Path("images/cats/s.png"), str(tmp_path / "images"), "--sheet")
    for out, data in (("runs", "images"), ("images/a.png", "images"), ("images2", "images"), ("digits", "digits"), ("x", "")):
        check_outside(Path(out), data)


@pytest.mark.parametrize("name", ["a.feather", "a.jsonl", "a.XLSX", "a.txt"])
def test_a_table_in_another_format_is_refused_with_the_format_to_save(name: str) -> None:
    Path(name).touch()
    with pytest.raises(DataError, match=r"not a folder; .*; save the table as a CSV with the columns path,label$"):
        open_source(name)
