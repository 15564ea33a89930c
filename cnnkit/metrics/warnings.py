"""Warnings about an evaluation: images of one class, classes without images, predictions of one class."""

from __future__ import annotations

from collections.abc import Sequence

from cnnkit.errors import counted, listed
from cnnkit.metrics.classification import ClassificationReport


def evaluation_warnings(report: ClassificationReport) -> list[str]:
    """Return a sentence for images of one class only, for classes without images, and for predictions of one class only."""
    support, predictions = report.confusion.sum(axis=1), report.confusion.sum(axis=0)
    present = [name for name, count in zip(report.classes, support, strict=True) if count]
    predicted = [name for name, count in zip(report.classes, predictions, strict=True) if count]
    absent = [name for name in report.classes if name not in present]
    found: list[str] = []
    if len(present) == 1:
        found.append(
            f"{report.split} has images of one class only, {present[0]!r}: ROC AUC and average precision are undefined, and balanced "
            f"accuracy is the recall of that class"
        )
    elif absent:
        plural = "classes" if len(absent) > 1 else "class"
        pronoun = "them" if len(absent) > 1 else "it"
        found.append(f"{report.split} has no image of the {plural} {_named(absent)}: the scores say nothing about {pronoun}")
    if len(predicted) == 1 and len(present) > 1:
        found.append(
            f"the model predicts {predicted[0]!r} for all {counted(report.n)}: it does not separate the classes; check in history.csv "
            f"whether the loss fell, and train longer or with another --lr"
        )
    return found


def _named(names: Sequence[str]) -> str:
    return listed(map(repr, names))
