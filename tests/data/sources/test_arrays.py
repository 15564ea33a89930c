from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnkit.data.image import UndecodableError
from cnnkit.data.source import Record
from cnnkit.data.sources.arrays import ArraysSource, source_in_memory, table_source
from cnnkit.data.store.facts import decode
from cnnkit.errors import ConfigError, DataError

RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)
LABELS = ["ants", "bees", "ants", "bees"]
NUMBER: Any = 5


def pixels(source: ArraysSource) -> list[np.ndarray[Any, Any]]:
    return [decode(source.read(record)).image for record in source.records]


def png(image: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "images",
    [
        RGB,
        torch.from_numpy(RGB),
        list(RGB),
        [torch.from_numpy(image) for image in RGB],
        [Image.fromarray(image) for image in RGB],
        [png(image) for image in RGB],
        np.array([png(image) for image in RGB], object),
        RGB.transpose(0, 2, 1, 3).copy().transpose(0, 2, 1, 3),
    ],
    ids=["array", "tensor", "arrays", "tensors", "Pillow", "bytes", "objects", "strides"],
)
def test_images_of_all_kinds_give_the_same_pixels(images: Any) -> None:
    source = ArraysSource(images, LABELS)
    np.testing.assert_array_equal(pixels(source), RGB)
    assert source.records == tuple(Record(str(index), label) for index, label in enumerate(LABELS))


@pytest.mark.parametrize("images", [RGB[..., 0], RGB[..., :1], list(RGB[..., 0]), [Image.fromarray(image[..., 0]) for image in RGB]])
def test_gray_images_get_three_equal_channels(images: Any) -> None:
    np.testing.assert_array_equal(pixels(ArraysSource(images, LABELS)), np.repeat(RGB[..., :1], 3, axis=3))


def test_generators_of_images_and_labels_are_read() -> None:
    images = np.arange(4 * 36, dtype=np.uint8).reshape(4, 6, 6)
    source, listed = ArraysSource(iter(images), iter(LABELS)), ArraysSource(images, LABELS)
    assert source.records == listed.records
    assert source.name == listed.name


def test_images_may_differ_in_size_and_kind(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(png(RGB[0]))
    source = ArraysSource([RGB[0], RGB[1, :3], tmp_path / "1.png", str(tmp_path / "gone.png")], LABELS)
    assert [image.shape for image in pixels(ArraysSource([RGB[0], RGB[1, :3]], [0, 1]))] == [(6, 5, 3), (3, 5, 3)]
    assert [record.path for record in source.records[1:]] == ["1", str(tmp_path / "1.png"), str(tmp_path / "gone.png")]
    assert source.read(source.records[2]) == png(RGB[0])
    with pytest.raises(UndecodableError, match="No such file"):
        source.read(source.records[3])


def test_a_pillow_image_is_read_like_its_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    Image.fromarray(RGB[0]).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(np.array([[0, 65_535]], np.uint16)).save(tmp_path / "wide.png")
    images = [Image.open(tmp_path / name) for name in ("turned.png", "wide.png")]
    turned, wide = pixels(ArraysSource(images, ["a", "b"]))
    np.testing.assert_array_equal(turned, np.rot90(RGB[0], -1))
    assert wide[0, :, 0].tolist() == [0, 255]
    for image in images:
        image.close()


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([3, 10, 3, 10]), ["3", "10", "3", "10"]),
        (torch.tensor([0, 1, 0, 1]), ["0", "1", "0", "1"]),
        ([np.int64(0), torch.tensor(1), 0, 1], ["0", "1", "0", "1"]),
        ([True, False, True, False], ["True", "False", "True", "False"]),
        (np.array(LABELS), LABELS),
        (np.array(LABELS, object), LABELS),
    ],
)
def test_labels_are_named_by_their_text(labels: Any, names: list[str]) -> None:
    assert [record.label for record in ArraysSource(RGB, labels).records] == names


def test_numbers_are_indices_of_given_classes() -> None:
    assert [record.label for record in ArraysSource(RGB, [1, 0, 1, 0], classes=["bees", "ants"]).records] == LABELS
    assert [record.label for record in ArraysSource(RGB, LABELS, classes=["bees", "ants", "wasps"]).records] == LABELS


def test_splits_and_groups_are_passed_on() -> None:
    source = ArraysSource(RGB, LABELS, splits=["train", "valid", "TEST", "train"], groups=[7, None, "x", 7])
    assert [(record.split, record.group) for record in source.records] == [("train", "7"), ("val", None), ("test", "x"), ("train", "7")]


def test_name_and_stamps_depend_on_the_content() -> None:
    first, second, gray = ArraysSource(RGB, LABELS), ArraysSource(RGB.copy(), LABELS), ArraysSource(RGB[..., 0], LABELS)
    assert first.name == second.name
    assert first.name.startswith("arrays-")
    assert len(first.name) == len("arrays-") + 8
    stamps = [first.stamp(record) for record in first.records]
    assert stamps == [second.stamp(record) for record in second.records]
    assert len(set(stamps)) == 4
    assert gray.name != first.name
    changed = RGB.copy()
    changed[2, 0, 0, 0] ^= 1
    other = ArraysSource(changed, LABELS)
    assert [other.stamp(record) == stamp for record, stamp in zip(other.records, stamps, strict=True)] == [True, True, False, True]
    assert ArraysSource(RGB.reshape(4, 5, 6, 3), LABELS).name != first.name


FLOATS: Any = RGB / np.float32(255)
NAN: Any = np.full((4, 2, 2), np.nan)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ArraysSource(FLOATS, LABELS),
            r"images: float32; expected uint8: scale the values to 0\.\.255 and add \.astype",
        ),
        (lambda: ArraysSource(NAN, LABELS), "images: contains NaN; expected uint8"),
        (lambda: ArraysSource(list(FLOATS), LABELS), r"images\[0\]: float32; expected uint8"),
        (
            lambda: ArraysSource(RGB.transpose(0, 3, 1, 2), LABELS),
            r"shape \(4, 3, 6, 5\); .*give images\.transpose\(0, 2, 3, 1\)",
        ),
        (lambda: ArraysSource([RGB[0].transpose(2, 0, 1)], [0]), r"images\[0\]: shape \(3, 6, 5\); .*images\[0\]\.transpose\(1, 2, 0\)"),
        (lambda: ArraysSource(np.zeros((4, 6, 5, 4), np.uint8), LABELS), r"4 channels: give images\[\.\.\., :3\]"),
        (lambda: ArraysSource(np.zeros((4, 6), np.uint8), LABELS), r"images: shape \(4, 6\); expected \(N, H, W\)"),
        (lambda: ArraysSource(np.zeros((4, 0, 5), np.uint8), LABELS), r"shape \(4, 0, 5\) has no pixels"),
        (lambda: ArraysSource([], []), "images: empty; expected at least one image"),
        (lambda: ArraysSource(NUMBER, LABELS), "images: got a value of type int; expected a list of images, or an array"),
        (
            lambda: ArraysSource(np.zeros((4, 6, 6), np.uint8), NUMBER),
            "labels: got a value of type int; expected a list of names or numbers, one for each image",
        ),
        (lambda: ArraysSource("images", LABELS), "images: a single file; give a list of images, or a folder with data="),
        (lambda: ArraysSource([None], [0]), r"images\[0\]: object; expected uint8"),
        (lambda: ArraysSource(["a.jpg", "b.jpg", "a.jpg"], [0, 1, 0]), r"images: 'a\.jpg' is listed 2 times; list each file once"),
        (lambda: ArraysSource(RGB, LABELS[:3]), "labels: 3 for 4 images; expected one for each image"),
        (lambda: ArraysSource(RGB, LABELS, splits=["train"]), "splits: 1 for 4 images"),
        (lambda: ArraysSource(RGB, LABELS, groups=[1]), "groups: 1 for 4 images"),
        (lambda: ArraysSource(RGB, LABELS, splits=["train"] * 3 + ["tset"]), r"splits: unknown split 'tset'; did you mean 'test'"),
        (
            lambda: ArraysSource(RGB, np.eye(4, dtype=int)),
            r"labels: shape \(4, 4\); .* for one-hot labels give labels\.argmax\(1\)",
        ),
        (lambda: ArraysSource(RGB, np.zeros(4)), r"labels\[0\]: 0\.0; expected a name, a whole number or a boolean .*astype\(int\)"),
        (lambda: ArraysSource(RGB, ["a", "b", float("nan"), "a"]), r"labels\[2\]: nan; expected a name"),  # pyright: ignore[reportArgumentType]
        (lambda: ArraysSource(RGB, ["a", " ", "b", "a"]), r"labels\[1\]: empty; expected the name of a class"),
        (lambda: ArraysSource(RGB, [0, 1, 2, 0], classes=["a", "b"]), r"labels\[2\]: 2 is no index of classes; expected 0 to 1"),
        (lambda: ArraysSource(RGB, LABELS, classes=["ant", "bees"]), r"labels: 'ants' is not in classes; did you mean 'ant'"),
    ],
)
def test_invalid_arguments_are_refused_with_advice(make: Callable[[], ArraysSource], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()


def test_a_tensor_that_numpy_cannot_read_is_refused() -> None:
    with pytest.raises(DataError, match="images: cannot be converted to an array"):
        ArraysSource(torch.zeros(4, 6, 5, requires_grad=True), LABELS)  # pyright: ignore[reportArgumentType]


def test_class_names_have_one_unicode_form() -> None:
    pixels = np.zeros((2, 4, 4), np.uint8)
    assert [record.label for record in ArraysSource(pixels, ["cafe\u0301", "caf\u00e9"]).records] == ["caf\u00e9"] * 2
    assert [record.label for record in ArraysSource(pixels, [0, 1], classes=["cafe\u0301", "tea"]).records] == ["caf\u00e9", "tea"]


class Frame:
    """A table as pandas and polars have it: `columns`, and a column by its name."""

    def __init__(self, **columns: list[Any]) -> None:
        self._cells = columns
        self.columns = list(columns)

    def __getitem__(self, name: str) -> list[Any]:
        return self._cells[name]


def test_a_table_has_columns_of_images_labels_splits_and_groups():
    frame = Frame(Path=["a.jpg", "b.jpg"], label=["ants", "bees"], split=["train", "valid"], group=["g", float("nan")], other=[1, 2])
    source = table_source(frame)
    assert source.records == (Record("a.jpg", "ants", "train", "g"), Record("b.jpg", "bees", "val"))
    pictures = table_source(Frame(image=[*RGB], label=[1, 2, 1, 2], split=[None] * 4))
    assert [record.split for record in pictures.records] == [None] * 4
    np.testing.assert_array_equal(pixels(pictures), RGB)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"paths": ["a.jpg"], "label": ["ants"]}, r"^data: no column 'path'; did you mean 'paths'\?.* it has: 'paths', 'label'$"),
        (
            {"path": ["a.jpg"]},
            r"^data: no column 'label'\. The table must have the columns path,label\[,split\]\[,group\]; it has: 'path'$",
        ),
        ({"path": ["a.jpg"], "Path": ["b.jpg"], "label": ["ants"]}, "^data: two columns are named 'path'; keep one$"),
        (
            {"path": ["a", "b"], "label": ["c", "d"], "split": ["train", None]},
            "^data: 1 of 2 rows have no split; fill in train, val or test",
        ),
        ({"path": ["a", "b"], "label": ["c", float("nan")]}, r"^labels\[1\]: nan; expected a name"),
    ],
)
def test_a_table_without_usable_columns_is_refused(columns, message):
    with pytest.raises(DataError, match=message):
        table_source(Frame(**columns))


def test_images_in_memory_are_told_from_the_name_of_a_source():
    assert source_in_memory("train", "digits", None, None) is None
    assert source_in_memory("train", Path("images"), None, None) is None
    assert source_in_memory("train", None, None, None) is None
    for given in ((None, RGB, LABELS), (Frame(image=[*RGB], label=LABELS), None, None)):
        source = source_in_memory("train", *given)
        assert source is not None
        assert [record.label for record in source.records] == LABELS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("digits", RGB, LABELS), r"train\(\) got data and images and labels, but needs either data or both images and labels"),
        ((None, RGB, None), r"train\(\) got images, but needs either data or both images and labels: train\(data='./images'\) or"),
        ((None, None, LABELS), r"train\(\) got labels, but needs"),
        ((RGB, None, None), r"train\(\) got a value of type ndarray as data; expected a path, .*: train\(images=..., labels=...\)"),
    ],
)
def test_images_need_labels_and_stand_alone(given, message):
    with pytest.raises(ConfigError, match=message):
        source_in_memory("train", *given)
