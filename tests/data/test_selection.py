"""Tests of the decisions before any image is decoded: the classes of a source and the typical size of its images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cnnkit.data.dataset import check_class_text, select_classes, typical_side
from cnnkit.data.source import Record, open_source
from cnnkit.data.sources.digits import DigitsSource
from cnnkit.errors import DataError


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


def test_an_unknown_class_is_refused_with_the_nearest_name(image_folder) -> None:
    source = open_source(str(image_folder()))
    with pytest.raises(DataError, match=r"--classes wasp: no such class in .*; did you mean 'wasps'.*\? It has: ants, bees, wasps"):
        select_classes(source, ("ants", "wasp"))


def test_one_class_is_refused(image_folder) -> None:
    with pytest.raises(DataError, match="has one class, 'ants'; a classifier needs at least two class folders"):
        select_classes(open_source(str(image_folder(["ants"]))), ())


def test_one_class_whose_folders_look_like_the_classes_is_refused_with_the_folder_to_name(image_folder) -> None:
    root = image_folder(["cats", "dogs"], 1, folder="up/my images").parent
    expected = (
        rf"{root} has one class, 'my images'; .* at least two; if its folders cats, dogs are the classes, type: --data '{root}/my images'$"
    )
    with pytest.raises(DataError, match=expected):
        select_classes(open_source(str(root)), ())


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


def test_the_typical_side_ignores_broken_images_and_needs_one_readable_image(image_folder) -> None:
    root: Path = image_folder({"ants": 1, "bees": 1}, size=(50, 40))
    (root / "ants/ants-000.jpg").write_bytes(b"broken")
    source = open_source(str(root))
    assert typical_side(source, source.records) == 40
    (root / "bees/bees-000.jpg").write_bytes(b"broken")
    with pytest.raises(
        DataError, match=r"none of the 2 images tried can be read, such as ants/ants-000\.jpg: .*; all reasons: cnnkit doctor"
    ):
        typical_side(source, source.records)


@pytest.mark.parametrize("number", [1, 199, 200, 201, 399, 400, 1797])
def test_the_typical_side_reads_at_most_200_images(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = DigitsSource()
    looked: list[Record] = []
    monkeypatch.setattr(source, "read", lambda record: looked.append(record) or np.zeros((8, 8, 3), np.uint8))
    assert typical_side(source, source.records[:number]) == 8
    assert min(number, 100) <= len(looked) <= 200


def test_a_class_whose_name_is_not_utf_8_is_refused_with_a_name_for_it() -> None:
    source = open_source("digits")
    check_class_text(source, ["caf\u00e9", "\u732b"])
    with pytest.raises(
        DataError, match=r"^digits: the class b'caf\\xe9' has a name that is not UTF-8; .* 'café'; rename its folder, or leave"
    ):
        check_class_text(source, ["caf\udce9"])
