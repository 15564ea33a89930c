from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnkit.api.inference import class_folders as module
from cnnkit.api.inference.class_folders import ClassFolders, check_root, folder_names
from cnnkit.api.inference.predict import Prediction
from cnnkit.errors import ConfigError

HOSTILE = ("../x", "..", ".", "", "/etc/passwd", "a/b", "a\\b", "C:\\x", "a\0b", "new\nline", "CON", "nul.txt", " . ", ".hidden", "x" * 300)


def predicted(path: Path | str, label: str = "ants", *, abstained: bool = False) -> Prediction:
    return Prediction(str(path), (label, "other"), np.array([0.9, 0.1], np.float32), abstained=abstained)


def files_of(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def photos() -> Path:
    for folder, text in {"a": "first", "b": "second", "c": "third"}.items():
        (Path("photos") / folder).mkdir(parents=True)
        (Path("photos") / folder / "photo.jpg").write_text(text)
    return Path("photos")


def test_an_image_is_copied_and_keeps_its_time(photos):
    os.utime(photos / "a/photo.jpg", (1_000_000_000, 1_000_000_000))
    folders = ClassFolders(Path("sorted"), ["ants", "other"])
    assert folders.add(predicted(photos / "a/photo.jpg")) == Path("sorted/ants/photo.jpg")
    assert files_of(Path("sorted")) == {"ants/photo.jpg": "first"}
    assert Path("sorted/ants/photo.jpg").stat().st_mtime == 1_000_000_000
    assert Path("sorted/ants/photo.jpg").stat().st_nlink == 1
    assert files_of(photos) == {"a/photo.jpg": "first", "b/photo.jpg": "second", "c/photo.jpg": "third"}


def test_a_second_image_of_one_name_gets_a_number_and_nothing_is_overwritten(photos):
    Path("sorted/ants").mkdir(parents=True)
    Path("sorted/ants/photo.jpg").write_text("of the user")
    folders = ClassFolders(Path("sorted"), ["ants", "other"])
    for name in "abc":
        folders.add(predicted(photos / name / "photo.jpg"))
    expected = {"photo.jpg": "of the user", "photo-2.jpg": "first", "photo-3.jpg": "second", "photo-4.jpg": "third"}
    assert files_of(Path("sorted/ants")) == expected


@pytest.mark.parametrize("link", [False, True])
def test_a_repeated_command_adds_what_is_missing(photos, link):
    for given in ("ab", "abc", "abc"):
        folders = ClassFolders(Path("sorted"), ["ants", "other"], link=link)
        for name in given:
            folders.add(predicted(photos / name / "photo.jpg"))
    assert (folders.added, folders.present) == (0, 3)
    assert files_of(Path("sorted")) == {"ants/photo-2.jpg": "second", "ants/photo-3.jpg": "third", "ants/photo.jpg": "first"}


@pytest.mark.parametrize("link", [False, True])
def test_the_order_of_a_repeated_command_does_not_matter(photos, link):
    for given in ("abc", "cba", "bca"):
        folders = ClassFolders(Path("sorted"), ["ants", "other"], link=link)
        for name in given:
            folders.add(predicted(photos / name / "photo.jpg"))
    assert (folders.added, folders.present) == (0, 3)
    assert files_of(Path("sorted")) == {"ants/photo-2.jpg": "second", "ants/photo-3.jpg": "third", "ants/photo.jpg": "first"}


def test_an_image_that_is_given_twice_is_added_once(photos):
    folders = ClassFolders(Path("sorted"), ["ants", "other"])
    targets = {folders.add(predicted(path)) for path in (photos / "a/photo.jpg", photos.absolute() / "b/../a/photo.jpg")}
    assert targets == {Path("sorted/ants/photo.jpg")}
    assert (folders.added, folders.present) == (1, 0)


@pytest.mark.parametrize("letter", ["x", "é"])
def test_a_second_image_of_the_longest_name_has_a_shorter_stem(photos, letter):
    name = letter * (251 // len(letter.encode())) + ".jpg"
    folders = ClassFolders(Path("sorted"), ["ants", "other"])
    for folder in "ab":
        folders.add(predicted((photos / folder / "photo.jpg").rename(photos / folder / name)))
    first, second = sorted(Path("sorted/ants").iterdir(), key=lambda path: path.read_text())
    assert first.name == name
    assert second.name.endswith(f"{letter}-2.jpg")
    assert len(second.name.encode()) <= 255


def test_two_equal_images_of_one_name_are_both_there(photos):
    (photos / "b/photo.jpg").write_text("first")
    folders = ClassFolders(Path("sorted"), ["ants", "other"])
    for name in "ab":
        folders.add(predicted(photos / name / "photo.jpg"))
    assert files_of(Path("sorted")) == {"ants/photo-2.jpg": "first", "ants/photo.jpg": "first"}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_a_link_leads_to_the_image_from_anywhere(photos, monkeypatch):
    ClassFolders(Path("sorted"), ["ants", "other"], link=True).add(predicted(photos / "a/photo.jpg"))
    link = Path("sorted/ants/photo.jpg").absolute()
    assert link.is_symlink()
    monkeypatch.chdir("/")
    assert link.read_text() == "first"


def test_abstained_and_unreadable_images(photos):
    folders = ClassFolders(Path("sorted"), ["abstained", "other"])
    folders.add(predicted(photos / "a/photo.jpg", "abstained"))
    folders.add(predicted(photos / "b/photo.jpg", "abstained", abstained=True))
    assert folders.add(Prediction("photos/c/photo.jpg", ("abstained", "other"), None, "truncated")) is None
    assert files_of(Path("sorted")) == {"abstained/photo.jpg": "second", "class abstained/photo.jpg": "first"}


def test_a_hostile_class_name_stays_below_the_folder(photos):
    names = folder_names(HOSTILE)
    assert len({name.casefold() for name in names}) == len(HOSTILE)
    assert names[:3] == ["_.._x", "_", "_-2"]
    folders = ClassFolders(Path("sorted"), HOSTILE)
    for label in HOSTILE:
        target = folders.add(predicted(photos / "a/photo.jpg", label))
        assert target is not None
        assert target.resolve().parent.parent == Path("sorted").resolve()
        assert target.read_text() == "first"
        assert not target.parent.name.startswith(".")
    assert {path.name for path in Path().iterdir()} == {"photos", "sorted"}


def test_class_names_of_one_spelling_have_their_own_folders():
    assert folder_names(["Cat", "cat", "cat-2", "Abstained", "abstained", "ü", "50 % off"]) == [
        "Cat",
        "cat-2",
        "cat-2-2",
        "Abstained-2",
        "class abstained",
        "ü",
        "50 % off",
    ]


def test_a_full_disk_names_the_file_and_leaves_no_part(photos, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match=r"No space left on device: 'sorted/ants/photo\.jpg'"):
        ClassFolders(Path("sorted"), ["ants", "other"]).add(predicted(photos / "a/photo.jpg"))
    assert files_of(Path("sorted")) == {}


def test_without_hard_links_nothing_is_overwritten_either(photos, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    folders = ClassFolders(Path("sorted"), ["ants", "other"])
    for name in "ab":
        folders.add(predicted(photos / name / "photo.jpg"))
    assert files_of(Path("sorted")) == {"ants/photo-2.jpg": "second", "ants/photo.jpg": "first"}


def test_a_name_that_another_process_takes_meanwhile_is_kept(photos, monkeypatch):
    flush = module.flush

    def slow(part: Path) -> None:
        flush(part)
        if not Path("sorted/ants/photo.jpg").exists():
            Path("sorted/ants/photo.jpg").write_text("of the other process")

    monkeypatch.setattr(module, "flush", slow)
    assert ClassFolders(Path("sorted"), ["ants", "other"]).add(predicted(photos / "a/photo.jpg")) == Path("sorted/ants/photo-2.jpg")
    assert files_of(Path("sorted")) == {"ants/photo-2.jpg": "first", "ants/photo.jpg": "of the other process"}


@pytest.mark.parametrize("root", ["photos", "photos/a/sorted", "photos/../photos/sorted", "link/sorted"])
def test_a_folder_inside_the_images_is_refused(photos, root):
    if sys.platform != "win32":
        Path("link").symlink_to("photos")
        with pytest.raises(
            ConfigError, match=r"^--move-by-class .*: lies inside photos, whose images are predicted; name a folder outside"
        ):
            check_root(Path(root), [Path("x.jpg"), photos])


def test_a_folder_around_the_images_is_refused(photos):
    for given in (photos / "a", photos / "a/photo.jpg"):
        with pytest.raises(
            ConfigError, match=r"^--move-by-class photos: photos/a with images to predict lies inside; name a folder without"
        ):
            check_root(Path("photos"), [given])
    check_root(Path("sorted"), [photos / "a", photos / "b/photo.jpg", Path("missing/x.jpg")])
