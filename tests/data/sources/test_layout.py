from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cnnkit.data.source import Record
from cnnkit.data.sources.layout import Layout, is_litter, natural_order, read_layout, read_split, suffix_of
from cnnkit.errors import DataError


def read(*paths: str) -> Layout:
    return read_layout(paths, "d")


def test_the_first_folder_is_the_class() -> None:
    assert read("bees/1.jpg", "ants/2.jpg").records == (Record("ants/2.jpg", "ants"), Record("bees/1.jpg", "bees"))


def test_images_in_folders_below_a_class_belong_to_it() -> None:
    assert read("ants/2019/spring/1.jpg", "bees/2.jpg").records[0] == Record("ants/2019/spring/1.jpg", "ants")


def test_suffixes_are_recognised_in_any_case() -> None:
    assert len(read("ants/1.JPG", "ants/2.Png", "ants/3.tiff").records) == 3


@pytest.mark.parametrize(
    ("path", "suffix"), [("a/1.JPG", ".jpg"), ("a.b/readme", ""), ("a/x.tar.gz", ".gz"), (".hidden", ""), ("a/.jpg", ""), ("x.", ".")]
)
def test_the_suffix_of_a_name(path: str, suffix: str) -> None:
    assert suffix_of(path) == suffix


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("training", "valid", "testing"),
        ("train", "eval", "test"),
        ("Train", "validation", "TEST"),
        ("TRAIN", "dev", "Test"),
    ],
)
def test_split_folders_fix_the_split_under_any_of_their_names(names: Sequence[str]) -> None:
    records = read(*(f"{name}/{label}/1.jpg" for name in names for label in ("ants", "bees"))).records
    assert {(record.path.split("/")[0], record.split) for record in records} == set(zip(names, ("train", "val", "test"), strict=True))
    assert {record.label for record in records} == {"ants", "bees"}


def test_without_train_folders_named_val_and_test_are_classes() -> None:
    assert [(record.label, record.split) for record in read("test/1.jpg", "other/1.jpg").records] == [("other", None), ("test", None)]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("training_set", "train"), ("Test_Set", "test"), ("val2017", "val"), ("TrainImages", "train"), ("images-test", "test")),
        *(("testdataset", "test"), ("eval", "val"), ("fold1", ""), ("split_2", ""), ("train_val", ""), ("holdout", "")),
        *((name, None) for name in ("cats", "train station", "images", "data", "1", "", "setter", "contest", "testudo", "valley")),
    ],
)
def test_names_of_split_folders_are_told_from_names_of_classes(name: str, split: str | None) -> None:
    assert read_split(name) == split


def test_split_folders_of_well_known_downloads_are_understood_and_named() -> None:
    layout = read(*(f"{split}/{split}/{label}/1.jpg" for split in ("training_set", "test_set") for label in ("cats", "dogs")))
    assert [(record.path, record.label, record.split) for record in layout.records][:2] == [
        ("test_set/test_set/cats/1.jpg", "cats", "test"),
        ("test_set/test_set/dogs/1.jpg", "dogs", "test"),
    ]
    assert {record.split for record in layout.records} == {"train", "test"}
    assert layout.notes() == (
        "folders were understood as splits: 'test_set' as test, 'training_set' as train; for other splits rename them",
        "the folder 'training_set' inside 'training_set' does not count as a class",
        "the folder 'test_set' inside 'test_set' does not count as a class",
    )


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("fold1", "fold2"), "the names read as splits, not as classes: 'fold1', 'fold2', and there is no folder train"),
        (("valid", "test"), "the names read as splits, .*: 'test', 'valid'.* To use one of them: --data d/test; .*in a CSV"),
        (("test_set",), "the name reads as a split, not as a class: 'test_set'"),
        (("train1", "train2"), "the folders 'train1' and 'train2' both mean the split train; keep one"),
        (("training_set", "fold1"), "the folder 'fold1' beside train is no split"),
    ],
)
def test_folders_whose_names_all_read_as_splits_are_no_classes(folders: Sequence[str], message: str) -> None:
    for deep in ("", "/cats"):
        with pytest.raises(DataError, match=message):
            read(*(f"{folder}{deep}/1.jpg" for folder in folders))


def test_words_that_all_folders_share_do_not_hide_their_splits() -> None:
    layout = read(*(f"seg_{split}/seg_{split}/{label}/1.jpg" for split in ("train", "test") for label in ("sea", "street")))
    assert {(record.label, record.split) for record in layout.records} == {(c, s) for c in ("sea", "street") for s in ("train", "test")}
    with pytest.raises(DataError, match=r"the folder 'seg_pred' beside train is no split; .* move it elsewhere"):
        read("seg_train/sea/1.jpg", "seg_test/sea/1.jpg", "seg_pred/1.jpg")
    for names in (("blood test", "urine test"), ("train a", "train b"), ("red", "red test")):
        assert {record.label for record in read(*(f"{name}/1.jpg" for name in names)).records} == set(names)


def test_a_copy_of_all_classes_that_unpacking_left_is_no_class() -> None:
    copied = [f"cells/{label}/1.jpg" for label in ("sick", "well")]
    with pytest.raises(
        DataError, match=r"the folder 'cells' holds folders of the same names as the classes beside it \(sick, well\), .*: --data d/cells"
    ):
        read("sick/1.jpg", "well/1.jpg", *copied)
    assert len(read("sick/1.jpg", "well/1.jpg", "cells/sick/1.jpg").records) == 3
    assert len(read("a/1.jpg", "b/a/1.jpg").records) == 2


def test_a_class_beside_a_name_that_reads_as_a_split_keeps_both_classes() -> None:
    assert {record.label for record in read("test_set/1.jpg", "cats/1.jpg").records} == {"test_set", "cats"}


@pytest.mark.parametrize(
    "files",
    [
        ("config.json", "split.csv", "curves.png"),
        ("best.safetensors", "eval/test/confusion.png"),
        ("metrics.json", "predictions.csv", "confusion.png"),
        ("explain.json", "a-1.png"),
        ("compare.json", "compare.png"),
        ("learning-curve.json", "learning-curve.png"),
    ],
)
def test_folders_that_cnnkit_wrote_are_left_out_and_named(files: Sequence[str]) -> None:
    own = [f"{place}/{file}" for place in ("runs/my-run", "cats/saved") for file in files]
    layout = read("cats/1.jpg", "dogs/1.jpg", *own)
    assert [record.path for record in layout.records] == ["cats/1.jpg", "dogs/1.jpg"]
    assert layout.notes() == ("2 images in folders that cnnkit wrote were left out: runs/my-run, cats/saved",)


def test_a_class_folder_with_one_such_name_stays_a_class() -> None:
    assert len(read("cats/1.jpg", "cats/config.json", "dogs/1.jpg", "dogs/split.csv").records) == 2


def test_data_of_runs_alone_is_refused() -> None:
    with pytest.raises(DataError, match=r"--data d: all images are in folders \(001-a\) that cnnkit wrote, so they are no data; name the"):
        read("001-a/config.json", "001-a/split.csv", "001-a/curves.png").check("d")
    with pytest.raises(DataError, match="all images are in a folder that cnnkit wrote"):
        read("best.safetensors", "eval/confusion.png").check("d")


def test_composed_and_decomposed_class_names_are_one_class() -> None:
    assert [record.label for record in read("caf\u00e9/1.jpg", "cafe\u0301/2.jpg").records] == ["caf\u00e9"] * 2
    assert read("train/cafe\u0301/2.jpg").records == (Record("train/cafe\u0301/2.jpg", "caf\u00e9", "train"),)


def test_a_folder_of_images_beside_train_that_is_no_split_is_refused() -> None:
    with pytest.raises(DataError, match="the folder 'holdout' beside train is no split; allowed: train, val, test; move it elsewhere"):
        read("train/ants/1.jpg", "holdout/ants/1.jpg")
    assert len(read("train/ants/1.jpg", "notes/readme.txt").records) == 1


def test_two_folders_for_one_split_are_refused() -> None:
    with pytest.raises(DataError, match="the folders 'val' and 'valid' both mean the split val; keep one"):
        read("train/ants/1.jpg", "val/ants/1.jpg", "valid/ants/1.jpg")


def test_left_out_files_are_counted() -> None:
    layout = read("ants/1.jpg", "ants/1.txt", "bees/1.txt", "bees/1.xml", "bees/README", "loose.jpg", "notes.txt")
    assert layout.notes() == (
        "1 image outside of class folders was left out",
        "4 files without an image were left out (2 .txt, 1 .xml, 1 without suffix)",
    )


def test_an_image_loose_in_a_split_folder_has_no_class() -> None:
    layout = read("train/ants/1.jpg", "train/2.jpg")
    assert ([record.path for record in layout.records], layout.loose) == (["train/ants/1.jpg"], 1)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (("1.jpg",), "if d is itself one class, name the folder above it"),
        ((), "--data d: no images found in class folders; expected files such as d/CLASS/photo.jpg; it is empty"),
        (("1.jpg", "2.jpg"), "there are 2 images outside of class folders: move each into a folder named after its class"),
        (("train/1.jpg", "val/2.jpg"), "there are 2 images outside of class folders"),
        (("ants/1.txt",), r"expected files such as d/CLASS/photo.jpg$"),
    ],
)
def test_no_image_in_a_class_folder_is_refused_with_advice(paths: Sequence[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(*paths).check("d")


@pytest.mark.parametrize("name", ["__MACOSX", "Thumbs.db", "desktop.ini", ".DS_Store", ".ipynb_checkpoints", "@eaDir", "._1.jpg"])
def test_files_of_systems_and_tools_are_litter(name: str) -> None:
    assert is_litter(name)
    assert not is_litter(f"my{name}")


def test_records_are_sorted_by_class_and_in_natural_order() -> None:
    paths = [f"{split}/{label}/{number}.jpg" for number in (10, 9, 1) for label in ("b", "a") for split in ("val", "train")]
    records = read(*paths).records
    assert [record.path for record in records[:4]] == ["train/a/1.jpg", "train/a/9.jpg", "train/a/10.jpg", "train/b/1.jpg"]
    assert records == read(*paths[::-1]).records


def test_class_names_are_in_natural_order() -> None:
    assert natural_order(["10", "2", "1"]) == ["1", "2", "10"]
    assert natural_order(["img10b", "img2", "img10a", "b", "B", "img", "2"]) == ["2", "B", "b", "img", "img2", "img10a", "img10b"]
    assert natural_order(["01", "1", "001"]) == ["001", "01", "1"]  # a stable rule for equal numbers


@example(["²", "①", "\u0661"])  # two digits that int() refuses, one that it reads
@given(st.lists(st.text(min_size=1), max_size=6))
def test_any_names_have_one_natural_order(names: list[str]) -> None:
    assert natural_order(names) == natural_order(names[::-1])
    assert sorted(natural_order(names)) == sorted(names)


def test_class_folders_without_an_image_are_counted_with_their_other_files() -> None:
    layout = read("ants/1.jpg", "birds/", "wasps/a.txt", "wasps/deep/", "readme.txt", "ants/empty/")
    assert layout.empty_classes == {"birds": 0, "wasps": 1}
    assert layout.other == {".txt": 1}
    assert layout.notes() == ("1 file without an image was left out (1 .txt)",)


def test_in_split_folders_only_a_class_without_any_image_is_empty() -> None:
    layout = read("train/ants/1.jpg", "train/birds/", "val/birds/", "train/bees/1.jpg", "val/bees/", "notes/x.txt", "train/x.txt")
    assert layout.empty_classes == {"birds": 0}


@given(st.lists(st.text("ab10é²\udcff.-", max_size=6), max_size=8))
def test_sort_keys_order_texts_and_numbers_as_lists_of_both_do(names: list[str]) -> None:
    def parts(name: str) -> tuple[list[object], str]:
        found: list[object] = [*re.split(r"(\d+)", name)]
        found[1::2] = [(len(plain), plain) for plain in (str(digits).lstrip("0") for digits in found[1::2])]
        return found, name

    assert natural_order(names) == sorted(names, key=parts)
