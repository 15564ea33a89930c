from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from cnnkit.api.inference.inputs import as_inputs, input_of, name_of, read_stored
from cnnkit.data.source import Record
from cnnkit.data.store.facts import decode
from cnnkit.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)


def png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "image", [RGB[0], Image.fromarray(RGB[0]), png(RGB[0]), torch.from_numpy(RGB[0])], ids=lambda one: type(one).__name__
)
def test_one_image_in_any_form_has_the_same_pixels(image):
    inputs, is_single = as_inputs(image)
    assert is_single
    assert [name_of(each) for each in inputs] == [""]
    np.testing.assert_array_equal(decode(read_stored(inputs[0])).image, RGB[0])
    listed, is_single = as_inputs([image])
    assert not is_single
    np.testing.assert_array_equal(decode(read_stored(listed[0])).image, RGB[0])


def test_a_path_is_a_file(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(png(RGB[1]))
    for given in (file, str(file)):
        assert as_inputs(given) == ([file], True)
        assert as_inputs([given]) == ([file], False)
    assert as_inputs(tmp_path.glob("*.png")) == ([file], False)
    assert name_of(file) == str(file)
    np.testing.assert_array_equal(decode(read_stored(file)).image, RGB[1])


@pytest.mark.parametrize(
    ("shape", "count", "is_single"),
    [((6, 5), 1, True), ((6, 5, 1), 1, True), ((6, 5, 3), 1, True), ((4, 6, 5), 4, False), ((3, 6, 5), 3, False), ((4, 6, 5, 1), 4, False)],
)
def test_the_shape_tells_one_image_from_several(shape, count, is_single):
    inputs, single = as_inputs(np.zeros(shape, np.uint8))
    assert (len(inputs), single) == (count, is_single)
    assert decode(read_stored(inputs[0])).image.shape == (6, 5, 3)


def test_a_column_of_paths_is_a_list():
    column = np.array(["a.png", "b.png"], object)
    assert as_inputs(column) == ([Path("a.png"), Path("b.png")], False)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (5, r"^images: got 5 \(int\); expected a path, a Pillow image, a uint8 array \(H, W, 3\)"),
        (None, r"^images: got None \(NoneType\)"),
        ({"path": "a.png"}, r"^images: got \{'path': 'a.png'\} \(dict\)"),
        ([RGB[0], 3.5], r"^images\[1\]: got 3.5 \(float\)"),
        (RGB[0] / 255, r"^image: float64; expected uint8: scale the values to 0..255"),
        ([RGB[0], RGB[1] / 255], r"^images\[1\]: float64; expected uint8"),
        (np.array(7), r"^images: got 7 \(int\)"),
        (torch.zeros(3, 8, 9, dtype=torch.uint8), r"give images.permute\(1, 2, 0\)"),
        (torch.zeros(3, 8, 9, requires_grad=True), r"^images: cannot be converted to an array"),
    ],
)
def test_other_values_are_refused_with_the_allowed_ones(images, message):
    with pytest.raises(DataError, match=message):
        as_inputs(images)


def test_a_table_is_refused_with_the_name_of_a_column():
    class Frame(dict[str, object]):
        columns = ("photo", "label")

    with pytest.raises(DataError, match=r"^images: a table; give one of its columns, such as images\['photo'\]$"):
        as_inputs(Frame())


def test_unreadable_bytes_are_an_error():
    inputs, _ = as_inputs(b"no image")
    with pytest.raises(DataError, match="not an image in a supported format"):
        decode(read_stored(inputs[0]))


def test_an_image_of_a_source_is_read_when_it_is_its_turn():
    read: list[str] = []

    class Reader:
        def read(self, record):
            read.append(record.path)
            return RGB[0]

    given = input_of(Reader(), Record("ants/1.png", "ants"))
    assert (name_of(given), read) == ("ants/1.png", [])
    np.testing.assert_array_equal(read_stored(given), RGB[0])
    assert read == ["ants/1.png"]
