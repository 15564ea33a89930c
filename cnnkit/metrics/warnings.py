"""What is odd about the images or the answers of an evaluation, so that its figures are not read as more than they are."""

from __future__ import annotations

from collections.abc import Sequence

from cnnkit.errors import listed
from cnnkit.metrics.classification import ClassificationReport


def remarks(report: ClassificationReport) -> list[str]:
    """Return a sentence for each of: images of one class only, classes without images, answers of one class only."""
    support, said = report.confusion.sum(axis=1), report.confusion.sum(axis=0)
    here = [name for name, count in zip(report.classes, support, strict=True) if count]
    answers = [name for name, count in zip(report.classes, said, strict=True) if count]
    absent = [name for name in report.classes if name not in here]
    found: list[str] = []
    if len(here) == 1:
        found.append(
            f"{report.split} has images of one class only, {here[0]!r}: how well classes are told apart (ROC AUC, average precision) is "
            f"undefined, and balanced accuracy is the recall of that class"
        )
    elif absent:
        plural = "classes" if len(absent) > 1 else "class"
        found.append(f"{report.split} has no image of the {plural} {_named(absent)}: nothing measured on {report.split} speaks of it")
    if len(answers) == 1 and len(here) > 1:
        found.append(
            f"every one of the {report.n} images was called {answers[0]!r}: the model tells no classes apart here; see in history.csv "
            f"whether its loss ever fell, and train longer or with another --lr"
        )
    return found


def _named(names: Sequence[str]) -> str:
    return listed(map(repr, names))
