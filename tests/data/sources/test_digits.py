from __future__ import annotations

import numpy as np
import pytest

from cnnkit.data.image import UndecodableError
from cnnkit.data.source import Record, open_source
from cnnkit.data.sources.digits import DigitsSource
from cnnkit.data.sources.folder import FolderSource
from cnnkit.errors import DataError


def test_digits_holds_the_1797_images_of_scikit_learn() -> None:
    source = open_source("digits")
    assert isinstance(source, DigitsSource)
    assert len(source.records) == 1797
    assert {record.label for record in source.records} == set("0123456789")
    assert len({record.path for record in source.records}) == 1797
    assert all(record.split is None for record in source.records)
    image = source.read(source.records[0])
    assert image.shape == (8, 8, 3)
    assert image.dtype == np.uint8
    assert (image[..., 0] == image[..., 2]).all()
    assert image[0, :4, 0].tolist() == [0, 0, 80, 207]  # 0, 0, 5 and 13 sixteenths: the first zero of the data set
    levels = np.unique([source.read(record) for record in source.records])
    assert (levels.min(), levels.max(), len(levels)) == (0, 255, 17)


def test_stamps_of_digits_are_equal_in_every_run() -> None:
    first, second = DigitsSource(), DigitsSource()
    assert [first.stamp(record) for record in first.records] == [second.stamp(record) for record in second.records]


def test_missing_digits_are_unreadable() -> None:
    with pytest.raises(UndecodableError, match="no such image"):
        open_source("digits").read(Record("3/9999", "3"))


def test_digits_has_no_subsets() -> None:
    with pytest.raises(DataError, match="--data digits:3: digits has no subsets; type --data digits"):
        open_source("digits:3")


def test_a_folder_called_digits_is_that_folder(image_folder) -> None:
    image_folder(folder="digits")
    assert isinstance(open_source("digits"), FolderSource)
