from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from cnnkit.data.dataset import select_classes, typical_side
from cnnkit.data.image import UndecodableError
from cnnkit.data.source import DigitsSource, FolderSource, Record, image_files, natural_order, open_source
from cnnkit.errors import DataError


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


def test_images_in_folders_below_a_class_belong_to_it(tmp_path: Path) -> None:
    touch(tmp_path / "d/ants/2019/spring/1.jpg", tmp_path / "d/bees/2.jpg")
    assert FolderSource(tmp_path / "d").records[0] == Record("ants/2019/spring/1.jpg", "ants")


def test_suffixes_are_known_in_any_case(tmp_path: Path) -> None:
    touch(tmp_path / "d/ants/1.JPG", tmp_path / "d/ants/2.Png", tmp_path / "d/ants/3.tiff")
    assert len(FolderSource(tmp_path / "d").records) == 3


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("training", "valid", "testing"), ("Train", "validation", "TEST"), ("TRAIN", "dev", "Test")]
)
def test_split_folders_fix_the_split_under_any_of_their_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        touch(tmp_path / "d" / name / "ants/1.jpg", tmp_path / "d" / name / "bees/1.jpg")
    records = FolderSource(tmp_path / "d").records
    assert {(record.path.split("/")[0], record.split) for record in records} == set(zip(names, ("train", "val", "test"), strict=True))
    assert {record.label for record in records} == {"ants", "bees"}


def test_classes_called_val_and_test_are_classes_where_there_is_no_train(tmp_path: Path) -> None:
    touch(tmp_path / "d/test/1.jpg", tmp_path / "d/other/1.jpg")
    assert [(record.label, record.split) for record in FolderSource(tmp_path / "d").records] == [("other", None), ("test", None)]


def test_a_folder_beside_train_that_is_no_split_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "d/train/ants/1.jpg", tmp_path / "d/holdout/ants/1.jpg")
    with pytest.raises(DataError, match="beside train there is 'holdout', which is no split; allowed: train, val, test"):
        FolderSource(tmp_path / "d")


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "d/train/ants/1.jpg", tmp_path / "d/val/ants/1.jpg", tmp_path / "d/valid/ants/1.jpg")
    with pytest.raises(DataError, match="'val' and 'valid' both mean the split val; keep one"):
        FolderSource(tmp_path / "d")


def test_hidden_files_and_litter_are_passed_over_in_silence(tmp_path: Path) -> None:
    root = tmp_path / "d"
    touch(root / "ants/1.jpg", root / "ants/._1.jpg", root / "ants/.DS_Store", root / "ants/Thumbs.db", root / "ants/desktop.ini")
    touch(root / ".git/1.jpg", root / "__MACOSX/ants/1.jpg", root / "ants/@eaDir/1.jpg", root / "ants/.thumbnails/1.jpg")
    source = FolderSource(root)
    assert [record.path for record in source.records] == ["ants/1.jpg"]
    assert source.notes == ()


def test_files_that_are_no_images_are_counted_by_their_ending(tmp_path: Path) -> None:
    root = tmp_path / "d"
    touch(root / "ants/1.jpg", root / "ants/1.txt", root / "bees/1.txt", root / "bees/1.xml", root / "bees/README", root / "bees/1.jpg")
    notes = FolderSource(root).notes
    assert notes == ("4 files that are no images were left out (2 .txt, 1 .xml, 1 without ending)",)


def test_loose_images_beside_class_folders_are_mentioned(tmp_path: Path) -> None:
    touch(
        tmp_path / "d/ants/1.jpg", tmp_path / "d/bees/1.jpg", tmp_path / "d/loose.jpg", tmp_path / "d/.hidden.jpg", tmp_path / "d/readme.md"
    )
    assert FolderSource(tmp_path / "d").notes == ("1 images outside of class folders were left out",)


def test_loose_images_alone_are_refused_with_advice(tmp_path: Path) -> None:
    touch(tmp_path / "d/1.jpg", tmp_path / "d/2.jpg")
    with pytest.raises(
        DataError, match=r"no images found in class folders; .*there are 2 images outside of class folders: move each into a folder"
    ):
        FolderSource(tmp_path / "d")


def test_loose_images_in_split_folders_are_refused_with_advice(tmp_path: Path) -> None:
    touch(tmp_path / "d/train/1.jpg", tmp_path / "d/val/2.jpg")
    with pytest.raises(DataError, match="there are 2 images outside of class folders"):
        FolderSource(tmp_path / "d")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "--data is missing: name a folder of class folders"),
        ("gone", "--data gone: no such folder"),
        ("file.zip", r"--data file\.zip: a file; expected a folder of class folders"),
        ("empty", "--data empty: no images found in class folders; .*; the folder is empty"),
        ("texts", "--data texts: no images found in class folders; expected files such as texts/CLASS/photo.jpg$"),
    ],
)
def test_what_cannot_be_a_source_is_refused(tmp_path: Path, data: str, message: str) -> None:
    touch(tmp_path / "file.zip", tmp_path / "texts/ants/1.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        open_source(data)


def test_a_symlink_loop_in_a_class_is_walked_once(tmp_path: Path) -> None:
    root = tmp_path / "d"
    touch(root / "ants/1.jpg", root / "bees/1.jpg")
    (root / "ants/again").symlink_to(root / "ants")
    assert labels(FolderSource(root)) == {"ants": 1, "bees": 1}


def test_a_link_to_a_folder_above_makes_no_class(tmp_path: Path) -> None:
    root = tmp_path / "d"
    touch(root / "ants/1.jpg", root / "bees/1.jpg")
    (root / "all").symlink_to(root)
    (root / "up").symlink_to(tmp_path)
    assert labels(FolderSource(root)) == {"ants": 1, "bees": 1}


def test_a_linked_class_folder_is_followed(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere/1.jpg", tmp_path / "d/ants/1.jpg")
    (tmp_path / "d/bees").symlink_to(tmp_path / "elsewhere")
    assert labels(FolderSource(tmp_path / "d")) == {"ants": 1, "bees": 1}


@pytest.mark.parametrize("closed", ["d", "d/ants", "d/ants/2019"])
def test_a_folder_that_may_not_be_listed_is_refused_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    root = tmp_path / "d"
    touch(root / "ants/2019/1.jpg", root / "bees/1.jpg")
    scandir, listdir = os.scandir, os.listdir

    def guarded(listing: Any) -> Any:
        def look(path: Any = ".") -> Any:
            if Path(path) == tmp_path / closed:
                raise PermissionError(13, "Permission denied", str(path))
            return listing(path)

        return look

    monkeypatch.setattr(os, "scandir", guarded(scandir))
    monkeypatch.setattr(os, "listdir", guarded(listdir))
    with pytest.raises(DataError, match=f"{closed}: cannot be listed: Permission denied"):
        FolderSource(root)


def test_reading_gives_pixels_and_the_hash_of_the_file(tmp_path: Path) -> None:
    colours = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    for folder in ("ants", "bees"):
        (tmp_path / "d" / folder).mkdir(parents=True)
        Image.fromarray(colours).save(tmp_path / "d" / folder / "1.png")
    source = FolderSource(tmp_path / "d")
    pixels = source.read(source.records[0])
    np.testing.assert_array_equal(pixels.image, colours)
    assert len(pixels.sha256) == 64
    assert pixels.sha256 == source.read(source.records[1]).sha256
    assert source.size(source.records[0]) == (2, 2)
    Image.fromarray(colours + 1).save(tmp_path / "d/bees/1.png")
    assert pixels.sha256 != source.read(source.records[1]).sha256


def test_a_file_that_is_gone_is_unreadable_and_has_a_stamp(image_folder) -> None:
    root: Path = image_folder()
    source = FolderSource(root)
    before = source.stamp(source.records[0])
    (root / source.records[0].path).unlink()
    assert source.stamp(source.records[0]) not in {before, source.stamp(source.records[1])}
    for look in (source.read, source.size):
        with pytest.raises(UndecodableError, match="No such file or directory"):
            look(source.records[0])


def test_the_stamp_tells_a_changed_file(image_folder) -> None:
    root: Path = image_folder()
    source = FolderSource(root)
    file = root / source.records[0].path
    before = source.stamp(source.records[0])
    assert source.stamp(source.records[0]) == before
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert source.stamp(source.records[0]) != before


def test_class_names_are_ordered_as_people_do() -> None:
    assert natural_order(["10", "2", "1"]) == ["1", "2", "10"]
    assert natural_order(["img10b", "img2", "img10a", "b", "B", "img", "2"]) == ["2", "B", "b", "img", "img2", "img10a", "img10b"]
    assert natural_order(["01", "1", "001"]) == ["001", "01", "1"]  # a stable rule for equal numbers


@settings(deadline=None)
@example(["²", "①", "\u0661"])  # digits that int() does not read, and one that it does
@given(st.lists(st.text(min_size=1), max_size=6))
def test_any_names_can_be_ordered_and_their_first_order_plays_no_part(names: list[str]) -> None:
    assert natural_order(names) == natural_order(names[::-1])
    assert sorted(natural_order(names)) == sorted(names)


def test_numbered_files_are_listed_in_their_order(tmp_path: Path) -> None:
    touch(*(tmp_path / "d/ants" / f"{number}.jpg" for number in (10, 9, 1)), tmp_path / "d/ants/notes.txt", tmp_path / "d/ants/.x.jpg")
    assert [file.name for file in image_files(tmp_path / "d")] == ["1.jpg", "9.jpg", "10.jpg"]
    assert [record.path for record in FolderSource(tmp_path / "d").records] == ["ants/1.jpg", "ants/9.jpg", "ants/10.jpg"]


def test_digits_are_the_1797_of_scikit_learn() -> None:
    source = open_source("digits")
    assert isinstance(source, DigitsSource)
    assert len(source.records) == 1797
    assert {record.label for record in source.records} == set("0123456789")
    assert len({record.path for record in source.records}) == 1797
    assert all(record.split is None for record in source.records)
    image = source.read(source.records[0]).image
    assert image.shape == (8, 8, 3)
    assert image.dtype == np.uint8
    assert (image[..., 0] == image[..., 2]).all()
    assert image[0, :4, 0].tolist() == [0, 0, 80, 207]  # of 0, 0, 5 and 13 sixteenths: the first zero of the collection
    assert source.size(source.records[0]) == (8, 8)
    levels = np.unique([source.read(record).image for record in source.records])
    assert (levels.min(), levels.max(), len(levels)) == (0, 255, 17)


def test_digits_that_do_not_exist_are_unreadable() -> None:
    with pytest.raises(UndecodableError, match="no such image"):
        open_source("digits").read(Record("3/9999", "3"))


def test_a_folder_called_digits_is_that_folder(image_folder) -> None:
    image_folder(folder="digits")
    assert isinstance(open_source("digits"), FolderSource)


def test_all_classes_are_taken_in_natural_order(image_folder) -> None:
    source = open_source(str(image_folder(["10", "9", "b"], 1)))
    records, classes = select_classes(source, ())
    assert classes == ("9", "10", "b")
    assert len(records) == 3


def test_chosen_classes_leave_the_others_out(image_folder) -> None:
    source = open_source(str(image_folder({"ants": 2, "bees": 3, "wasps": 4})))
    records, classes = select_classes(source, ("wasps", "ants"))
    assert classes == ("ants", "wasps")
    assert Counter(record.label for record in records) == {"ants": 2, "wasps": 4}


def test_an_unknown_class_is_refused_with_the_nearest(image_folder) -> None:
    source = open_source(str(image_folder()))
    with pytest.raises(DataError, match=r"--classes wasp: no such class in .*; did you mean 'wasps'.*\? It has: ants, bees, wasps"):
        select_classes(source, ("ants", "wasp"))


def test_one_class_is_refused(image_folder) -> None:
    with pytest.raises(DataError, match="has one class, 'ants'; a classifier needs at least two class folders"):
        select_classes(open_source(str(image_folder(["ants"]))), ())


def test_one_chosen_class_is_refused(image_folder) -> None:
    source = open_source(str(image_folder(folder="many")))
    for chosen in (("bees",), ("bees", "bees")):
        with pytest.raises(
            DataError, match=r"--classes: one class, 'bees'; a classifier needs at least two; .*many has: ants, bees, wasps"
        ):
            select_classes(source, chosen)


def test_the_typical_side_is_the_median_of_the_shorter_sides(image_folder) -> None:
    image_folder(["ants"], 5, size=(60, 20))
    image_folder(["bees"], 2, size=(90, 100))
    source = open_source(str(image_folder(["wasps"], 1, size=(300, 200))))
    assert typical_side(source, source.records) == 20


def test_the_typical_side_passes_over_broken_images_and_needs_one_that_is_whole(image_folder) -> None:
    root: Path = image_folder({"ants": 1, "bees": 1}, size=(50, 40))
    (root / "ants/ants-000.jpg").write_bytes(b"broken")
    source = open_source(str(root))
    assert typical_side(source, source.records) == 40
    (root / "bees/bees-000.jpg").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"none of the images looked at can be read, such as ants/ants-000\.jpg"):
        typical_side(source, source.records)


@pytest.mark.parametrize("number", [1, 199, 200, 201, 399, 400, 1797])
def test_the_typical_side_looks_at_200_images_at_most(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = DigitsSource()
    looked: list[Record] = []
    monkeypatch.setattr(source, "size", lambda record: looked.append(record) or (8, 8))
    assert typical_side(source, source.records[:number]) == 8
    assert min(number, 100) <= len(looked) <= 200
