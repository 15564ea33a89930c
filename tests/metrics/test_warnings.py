from __future__ import annotations

import numpy as np

from cnnkit.metrics.classification import ClassificationReport, classification_report
from cnnkit.metrics.warnings import remarks

CLASSES = ("ant", "bee", "cat")


def report(labels: list[int], said: list[int]) -> ClassificationReport:
    return classification_report(labels, np.eye(3)[said], CLASSES, split="test")


def test_nothing_odd_is_nothing_to_say() -> None:
    assert remarks(report([0, 1, 2], [0, 2, 1])) == []


def test_images_of_one_class() -> None:
    (said,) = remarks(report([1, 1], [1, 0]))
    assert said.startswith("test has images of one class only, 'bee': how well classes are told apart (ROC AUC, average")


def test_a_class_without_images() -> None:
    (said,) = remarks(report([0, 1, 1], [1, 0, 2]))
    assert said == "test has no image of the class 'cat': nothing measured on test speaks of it"


def test_many_classes_without_images_are_counted() -> None:
    found = classification_report([0, 1], np.eye(9)[[1, 0]], [f"c{i}" for i in range(9)], split="val")
    assert remarks(found) == [
        "val has no image of the classes 'c2', 'c3', 'c4', 'c5', 'c6', 'c7', 'c8': nothing measured on val speaks of it"
    ]


def test_answers_of_one_class() -> None:
    (said,) = remarks(report([0, 1, 2], [1, 1, 1]))
    assert said.startswith("every one of the 3 images was called 'bee': the model tells no classes apart here; see in history.csv")
