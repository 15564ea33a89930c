from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest

from cnnkit.doctor.classes import class_name_clash, empty_class, imbalance, small_class


def sized(image, sizes, **more):
    return [image(label, **more) for label, size in sizes.items() for _ in range(size)]


@pytest.mark.parametrize(
    ("sizes", "severity", "said"),
    [
        ({"a": 300, "b": 30}, "warning", "--balance sampler"),
        ({"a": 90, "b": 30}, "note", "--balance weights"),
    ],
)
def test_imbalance_recommends_a_balance(sizes, severity, said, image, evidence) -> None:
    finding = imbalance(evidence(sized(image, sizes)))
    assert finding is not None
    assert (finding.severity, finding.files) == (severity, ())
    assert said in finding.message


def test_imbalance_states_sizes_and_the_accuracy_of_a_constant_prediction(image, evidence) -> None:
    finding = imbalance(evidence(sized(image, {"cats": 300, "dogs": 30})))
    assert finding is not None
    assert "'cats' has 10.0 times as many images as 'dogs' (300 and 30)" in finding.message
    assert "the constant prediction 'cats' would be right for 91 %" in finding.message


def test_imbalance_counts_the_training_images(image, evidence) -> None:
    images = sized(image, {"a": 50, "b": 50}, split="train") + sized(image, {"a": 100, "b": 5}, split="test")
    assert imbalance(evidence(images)) is None


def test_balanced_classes_and_a_single_class_have_no_finding(image, evidence) -> None:
    assert imbalance(evidence(sized(image, {"a": 50, "b": 20}))) is None
    assert imbalance(evidence(sized(image, {"a": 50}))) is None


def test_a_small_class_states_the_precision_of_its_accuracy(image, evidence) -> None:
    finding = small_class(evidence(sized(image, {"a": 200, "b": 14})))
    assert finding is not None
    assert finding.severity == "warning"
    assert (
        "1 class with fewer than 15 images for the evaluation. 'b' has the fewest, 2: its accuracy is known to within ±43"
        in finding.message
    )
    note = small_class(evidence(sized(image, {"a": 200, "b": 80})))
    assert note is not None
    assert note.severity == "note"
    assert small_class(evidence(sized(image, {"a": 200, "b": 100}))) is None


def test_a_class_that_cannot_be_split_is_an_error(image, evidence) -> None:
    finding = small_class(evidence([*sized(image, {"a": 200, "b": 2}), image("b", error="the file is empty")]))
    assert finding is not None
    assert finding.severity == "error"
    assert "Classes with too few readable images for train, val and test: 'b' (2). Training refuses them." in finding.message


def test_a_class_without_training_images_is_an_error(image, evidence) -> None:
    images = sized(image, {"a": 50}, split="train") + sized(image, {"a": 20, "b": 20}, split="test")
    finding = small_class(evidence(images))
    assert finding is not None
    assert finding.severity == "error"
    assert "Classes with readable images in val or test but none in train: 'b'." in finding.message


def test_images_of_a_given_test_split_are_counted(image, evidence) -> None:
    images = sized(image, {"a": 500, "b": 500}, split="train") + sized(image, {"a": 20, "b": 8}, split="test")
    finding = small_class(evidence(images))
    assert finding is not None
    assert "'b' has the fewest, 8:" in finding.message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cat", "cat"),
        ("caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")),
        ("cat", "cat "),
        ("polar bear", "polar_bear"),
        ("cat", "\u0441at"),
    ],
)
def test_names_that_look_alike_clash(one, other, image, evidence) -> None:
    finding = class_name_clash(evidence([image(one, path="x/1.jpg"), image(other, path="y/1.jpg"), image("dog")]))
    assert finding is not None
    assert finding.severity == "warning"
    assert {path for case in finding.files for path in case} == {"x/1.jpg", "y/1.jpg"}


def test_singular_and_plural_are_a_note(image, evidence) -> None:
    finding = class_name_clash(evidence([image("cat"), image("cats"), image("berry"), image("berries")]))
    assert finding is not None
    assert finding.severity == "note"
    assert len(finding.files) == 2


@pytest.mark.parametrize("names", [("1", "-1"), ("glas", "glass"), ("1.0", "10"), ("a", "as"), ("ants", "bees"), ("c", "c++")])
def test_names_that_differ_do_not_clash(names, image, evidence) -> None:
    assert class_name_clash(evidence([image(name) for name in names])) is None


def test_empty_class_folders_are_a_warning_and_folders_of_other_files_a_note(image, evidence) -> None:
    found = evidence(sized(image, {"a": 20, "b": 20}))
    assert empty_class(found) is None
    finding = empty_class(replace(found, empty_classes={"birds": 0, "notes": 3}))
    assert finding is not None
    assert finding.severity == "warning"
    assert finding.message == (
        "2 class folders without an image: 'birds' and 'notes' (only 3 files of other kinds). "
        "The training knows no such classes; add images, or delete the folders."
    )
    finding = empty_class(replace(found, empty_classes={"notes": 1}))
    assert finding is not None
    assert finding.severity == "note"
    assert "1 class folder without an image: 'notes' (only 1 file of other kinds)" in finding.message
