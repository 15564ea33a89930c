"""Prediction: files in, one row per file out, in the order given; an unreadable file is a row with its error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.inference.drift import DriftWatch
from cnnkit.api.inference.target import find_target
from cnnkit.data.image import read_image
from cnnkit.data.sources.folder import image_files
from cnnkit.errors import DataError
from cnnkit.exporters.opening import open_classifier
from cnnkit.files import class_columns
from cnnkit.model.classifier import Classifier, rules_of
from cnnkit.model.rules import Rules

LABEL_SET = "label_set"
BATCH = 64  # decoded photos wait in memory at full size: 64 of 12 megapixels are 2.3 GB


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer for one file: probabilities (K,) float32 in the order of `classes`, or `error` and no probabilities.

    `abstained` says that the model's own threshold calls this no answer; `label_set` are the classes the image may belong to, the
    most probable first, if the model has a rule for that.
    """

    path: str
    classes: tuple[str, ...]
    probabilities: NDArray[np.float32] | None
    error: str = ""
    abstained: bool = False
    label_set: tuple[str, ...] | None = None

    def top(self, count: int) -> list[tuple[str, float]]:
        """Return the `count` most probable classes with their probabilities, the best first; empty after an error."""
        if self.probabilities is None:
            return []
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.classes[index], float(self.probabilities[index])) for index in order]

    def row(self, *, all_probabilities: bool = False) -> dict[str, object]:
        """Return the row of ``predict --out``; a class column is None where there is an error.

        The column ``label_set`` comes last, and only where the model has a rule for it.
        """
        best = self.top(1)
        name, probability = best[0] if best else (None, None)
        row: dict[str, object] = {
            "path": self.path,
            "predicted": name,
            "probability": probability,
            "abstained": self.abstained,
            "error": self.error or None,
        }
        if all_probabilities:
            values = [None] * len(self.classes) if self.probabilities is None else map(float, self.probabilities)
            row.update(zip(class_columns(self.classes, [*row, LABEL_SET]), values, strict=True))
        if self.label_set is not None:
            row[LABEL_SET] = list(self.label_set)
        return row


class Predictions(Iterator[Prediction]):
    """The answers for files, each worked out when it is asked for, by a file that has `rules`."""

    def __init__(self, classifier: Classifier, files: Sequence[Path], watch: DriftWatch | None = None) -> None:
        self.rules = rules_of(classifier)
        self._answers = predictions(classifier, files, watch)

    def __next__(self) -> Prediction:
        return next(self._answers)


def predict(images: str | Path | Sequence[str | Path], model: str | Path | None = None, *, watch: DriftWatch | None = None) -> Predictions:
    """Yield one `Prediction` per file, in the order given; a folder stands for the images in it.

    A `watch` sees them all and tells at the end, by its `result`, whether they look unlike the images the model knows.
    Raises `DataError` if a folder holds no image, `ModelFileError` if there is no such model; a file that is missing or
    unreadable is a row with its error.
    """
    files = image_paths([images] if isinstance(images, str | Path) else images)
    return Predictions(open_classifier(find_target(model).path), files, watch)


def image_paths(given: Sequence[str | Path]) -> list[Path]:
    """Return the files that are meant: a folder stands for the images in it; raises `DataError` if it has none."""
    return [file for name in given for file in _expanded(Path(name))]


def predictions(classifier: Classifier, files: Sequence[Path], watch: DriftWatch | None = None) -> Iterator[Prediction]:
    """Yield one `Prediction` per file, in order, by the rules of the classifier's file."""
    rules = rules_of(classifier)
    nothing = () if rules.label_sets else None
    for start in range(0, len(files), BATCH):
        errors: dict[Path, str] = {}
        decoded: list[NDArray[np.uint8]] = []
        part = files[start : start + BATCH]
        for file in part:
            try:
                decoded.append(read_image(file))
            except DataError as error:
                errors[file] = str(error).removeprefix(f"{file}: ")
        answers = _judged(_answers(classifier, decoded, watch), classifier.classes, rules)
        for file in part:
            failed = errors.get(file)
            if failed:
                yield Prediction(str(file), classifier.classes, None, failed, label_set=nothing)
            else:
                yield replace(next(answers), path=str(file))


def _answers(classifier: Classifier, images: Sequence[NDArray[np.uint8]], watch: DriftWatch | None) -> NDArray[np.float32]:
    if not images:
        return np.empty((0, len(classifier.classes)), np.float32)
    return watch.answers(classifier, images) if watch else classifier.probabilities(images)


def _judged(probabilities: NDArray[np.float32], classes: tuple[str, ...], rules: Rules) -> Iterator[Prediction]:
    """Yield an answer without a path for each row of probabilities (N, K)."""
    answered = rules.abstention.accepts(probabilities.max(1)) if rules.abstention else np.ones(len(probabilities), np.bool_)
    inside = rules.label_sets.members(probabilities) if rules.label_sets else None
    for row, chances in enumerate(probabilities):
        members = None if inside is None else tuple(classes[k] for k in np.argsort(-chances, kind="stable") if inside[row, k])
        yield Prediction("", classes, chances, abstained=not answered[row], label_set=members)


def _expanded(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = image_files(path)
    if not found:
        raise DataError(f"{path}: no images in this folder; expected files such as photo.jpg")
    return found
