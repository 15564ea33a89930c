from __future__ import annotations

import numpy as np

from cnnkit.metrics.classification import ClassificationReport, classification_report
from cnnkit.metrics.warnings import evaluation_warnings

CLASSES = ("ant", "bee", "cat")


def report(labels: list[int], predicted: list[int]) -> ClassificationReport:
    return classification_report(labels, np.eye(3)[predicted], CLASSES, split="test")


def test_an_ordinary_evaluation_has_no_warning() -> None:
    assert evaluation_warnings(report([0, 1, 2], [0, 2, 1])) == []


def test_images_of_one_class() -> None:
    (message,) = evaluation_warnings(report([1, 1], [1, 0]))
    assert message == (
        "test has images of one class only, 'bee': ROC AUC and average precision are undefined, and balanced accuracy is the recall of "
        "that class"
    )


def test_a_class_without_images() -> None:
    (message,) = evaluation_warnings(report([0, 1, 1], [1, 0, 2]))
    assert message == "test has no image of the class 'cat': the scores say nothing about it"


def test_many_classes_without_images_are_counted() -> None:
    found = classification_report([0, 1], np.eye(9)[[1, 0]], [f"c{i}" for i in range(9)], split="val")
    assert evaluation_warnings(found) == [
        "val has no image of the classes 'c2', 'c3', 'c4', 'c5', 'c6', 'c7', 'c8': the scores say nothing about them"
    ]


def test_predictions_of_one_class() -> None:
    (message,) = evaluation_warnings(report([0, 1, 2], [1, 1, 1]))
    assert message.startswith("the model predicts 'bee' for all 3 images: it does not separate the classes; check in history.csv")
