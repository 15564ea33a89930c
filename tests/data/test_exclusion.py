from __future__ import annotations

import shutil

import pytest

from cnnkit.data.exclusion import leave_out
from cnnkit.data.source import open_source
from cnnkit.errors import DataError


def test_excluded_images_are_left_out_with_a_note(image_folder) -> None:
    root = image_folder(("ants", "bees"), 2)
    (root / "bees" / "masks").mkdir()
    shutil.copy(root / "bees" / "bees-000.jpg", root / "bees" / "masks" / "1.jpg")
    source = leave_out(open_source(str(root)), ("*/masks/*", "*-001.jpg"))
    assert [record.path for record in source.records] == ["ants/ants-000.jpg", "bees/bees-000.jpg"]
    assert source.notes == ("3 images were left out by --exclude",)
    assert source.name == str(root)
    assert source.read(source.records[0]) == (root / "ants" / "ants-000.jpg").read_bytes()
    assert source.stamp(source.records[0]) == open_source(str(root)).stamp(source.records[0])


def test_a_class_that_is_excluded_is_named(image_folder) -> None:
    assert leave_out(open_source(str(image_folder(images=2))), ("bees/*",)).notes == (
        "2 images were left out by --exclude, among them all images of 'bees'",
    )


def test_a_pattern_that_matches_nothing_or_everything_is_an_error(image_folder) -> None:
    root = str(image_folder(images=2))
    with pytest.raises(DataError, match=r"--exclude \*.pgn: no image of .* has such a path.*; the first is 'ants/ants-000.jpg'"):
        leave_out(open_source(root), ("*.pgn",))
    with pytest.raises(DataError, match=r"--exclude \*: leaves no image of"):
        leave_out(open_source(root), ("*",))


def test_without_patterns_it_is_the_source_itself(image_folder) -> None:
    source = open_source(str(image_folder(images=2)))
    assert leave_out(source, ()) is source
