"""Prediction: files in, one row per file out, in the order given; an unreadable file is a row with its error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.target import find_target
from cnnkit.classifier import Classifier, open_classifier
from cnnkit.data.image import read_image
from cnnkit.data.sources.folder import image_files
from cnnkit.errors import DataError
from cnnkit.run_dir import class_columns

BATCH = 64  # decoded photos wait in memory at full size: 64 of 12 megapixels are 2.3 GB


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer for one file: probabilities (K,) float32 in the order of `classes`, or `error` and no probabilities."""

    path: str
    classes: tuple[str, ...]
    probabilities: NDArray[np.float32] | None
    error: str = ""

    def top(self, count: int) -> list[tuple[str, float]]:
        """Return the `count` most probable classes with their probabilities, the best first; empty after an error."""
        if self.probabilities is None:
            return []
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.classes[index], float(self.probabilities[index])) for index in order]

    def row(self, *, all_probabilities: bool = False) -> dict[str, object]:
        """Return the row of ``predict --out``; a class column is None where there is an error."""
        best = self.top(1)
        name, probability = best[0] if best else (None, None)
        row: dict[str, object] = {
            "path": self.path,
            "predicted": name,
            "probability": probability,
            "abstained": False,
            "error": self.error or None,
        }
        if all_probabilities:
            values = [None] * len(self.classes) if self.probabilities is None else map(float, self.probabilities)
            row.update(zip(class_columns(self.classes, row), values, strict=True))
        return row


def predict(images: str | Path | Sequence[str | Path], model: str | Path | None = None) -> Iterator[Prediction]:
    """Yield one `Prediction` per file, in the order given; a folder stands for the images in it.

    Raises `DataError` if a folder holds no image, `ModelFileError` if there is no such model; a file that is missing or
    unreadable is a row with its error.
    """
    files = image_paths([images] if isinstance(images, str | Path) else images)
    return _predictions(open_classifier(find_target(model).path), files)


def image_paths(given: Sequence[str | Path]) -> list[Path]:
    """Return the files that are meant: a folder stands for the images in it; raises `DataError` if it has none."""
    return [file for name in given for file in _expanded(Path(name))]


def _predictions(classifier: Classifier, files: Sequence[Path]) -> Iterator[Prediction]:
    for start in range(0, len(files), BATCH):
        errors: dict[Path, str] = {}
        decoded: list[NDArray[np.uint8]] = []
        part = files[start : start + BATCH]
        for file in part:
            try:
                decoded.append(read_image(file))
            except DataError as error:
                errors[file] = str(error).removeprefix(f"{file}: ")
        answers = iter(classifier.probabilities(decoded)) if decoded else iter(())
        for file in part:
            failed = errors.get(file)
            yield Prediction(str(file), classifier.classes, None if failed else next(answers), failed or "")


def _expanded(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = image_files(path)
    if not found:
        raise DataError(f"{path}: no images in this folder; expected files such as photo.jpg")
    return found
