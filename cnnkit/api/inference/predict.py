"""Prediction: one row per image, in the order given; the row of an unreadable file holds the error."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.inference.device import device_notes, open_on_device
from cnnkit.api.inference.drift import DriftWatch, check_fingerprint
from cnnkit.api.inference.inputs import Input, as_inputs, name_of
from cnnkit.api.inference.prepared import Shard, predicted_batches
from cnnkit.api.inference.target import ModelName, find_target
from cnnkit.data.sources.folder import sorted_files
from cnnkit.errors import DataError, counted, listed, shell_path
from cnnkit.files import class_columns
from cnnkit.model.classifier import Classifier, rules_of
from cnnkit.model.rules import Rules

LABEL_SET = "label_set"


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The prediction for one image: probabilities (K,) float32 in the order of `classes`, or an `error` and no probabilities.

    `path` is empty for an image in memory. `abstained` is True if the highest probability is below the threshold of the model's file.
    `label_set` holds the classes that the image may belong to, the most probable first; it is None if the model's file has no rule for
    label sets.
    """

    path: str
    classes: tuple[str, ...]
    probabilities: NDArray[np.float32] | None
    error: str = ""
    abstained: bool = False
    label_set: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        where = f", path={self.path!r}" if self.path else ""
        if self.probabilities is None:
            return f"Prediction(error={self.error!r}{where})"
        return f"Prediction({self.label!r}, {self.probability:.3f}{', abstained' if self.abstained else ''}{where})"

    @property
    def label(self) -> str:
        """The most probable class; raises `DataError` with the reason if the image could not be read."""
        return self._best()[0]

    @property
    def probability(self) -> float:
        """The probability of the most probable class, in [0, 1]; raises `DataError` if the image could not be read."""
        return self._best()[1]

    def _best(self) -> tuple[str, float]:
        if self.probabilities is None:
            raise DataError(f"{self.path}: {self.error}" if self.path else self.error)
        return self.top(1)[0]

    def to_dict(self) -> dict[str, object]:
        """Return the columns of ``predict --out``."""
        return self.row()

    def top(self, count: int) -> list[tuple[str, float]]:
        """Return the `count` most probable classes with their probabilities, the highest first; empty after an error."""
        if self.probabilities is None:
            return []
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.classes[index], float(self.probabilities[index])) for index in order]

    def row(self, *, all_probabilities: bool = False) -> dict[str, object]:
        """Return the row of ``predict --out``; after an error, the probability of every class is None.

        The column ``label_set`` comes last, and only if the model's file has a rule for label sets.
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
    """An iterator over the predictions for images, which are computed on demand; `rules` are those of the model's file.

    `classes` are the names of its classes, `notes` name the files of folders that have no row, `total` is the number of images.
    """

    def __init__(
        self, classifier: Classifier, files: Sequence[Input], watch: DriftWatch | None = None, notes: tuple[str, ...] = ()
    ) -> None:
        self.rules = rules_of(classifier)
        self.classes = classifier.classes
        self.notes = notes
        self.total = len(files)
        self._predictions = predictions(classifier, files, watch)

    def __next__(self) -> Prediction:
        return next(self._predictions)

    def columns(self, *, all_probabilities: bool = False) -> tuple[str, ...]:
        """Return the columns of `Prediction.row`, also without an image."""
        unread = Prediction("", self.classes, None, label_set=() if self.rules.label_sets else None)
        return tuple(unread.row(all_probabilities=all_probabilities))


def predict(
    images: Any, model: ModelName = None, *, device: str = "auto", watch: DriftWatch | None = None, shard: Shard | None = None
) -> Predictions:
    """Return the predictions, one per image in the order given; a folder stands for the images in it.

    `images` are paths, Pillow images, arrays, the bytes of image files, or a list of them (`as_inputs`). `device` is that of the
    network. A `watch` records every image; its `result` compares them at the end with the images of the training. A `shard`
    restricts the predictions to its part of the images. A missing or unreadable file gives a row with its error. Raises `DataError` if a
    folder holds no image or no path exists, `ModelFileError` if the model cannot be loaded.
    """
    target = find_target(model)
    inputs, notes = find_inputs(as_inputs(images)[0])
    chosen = shard.part(inputs) if shard else inputs
    classifier = open_on_device(target, device)
    if watch is not None:
        check_fingerprint(classifier, target.path)
    return Predictions(classifier, chosen, watch, (*device_notes(classifier), *notes))


def find_inputs(given: Sequence[Input]) -> tuple[list[Input], tuple[str, ...]]:
    """Return `given` with each folder replaced by its images, and the notes of `find_images`, which also raises its errors."""
    paths = [each for each in given if isinstance(each, Path)]
    if len(paths) == len(given):
        files, notes = find_images(paths)
        return [*files], notes
    found = [find_images([each]) if isinstance(each, Path) and each.is_dir() else ([each], ()) for each in given]
    return [each for inputs, _ in found for each in inputs], tuple(note for _, notes in found for note in notes)


def find_images(given: Sequence[str | Path]) -> tuple[list[Path], tuple[str, ...]]:
    """Return the files of the paths `given`, with each folder replaced by its images, and notes on the other files of folders.

    Raises `DataError` if a folder holds no image, or if none of the paths exists.
    """
    paths = [Path(name) for name in given]
    if paths and not any(map(os.path.lexists, paths)):
        problem = f"none of {len(paths)} paths exists, such as {paths[0]}" if len(paths) > 1 else f"{paths[0]}: no such file or folder"
        raise DataError(f"{problem}; name image files, or folders of images")
    files: list[Path] = []
    notes: list[str] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        images, others = sorted_files(path)
        if not images:
            raise DataError(f"{path}: no images in this folder; expected files such as photo.jpg{';' if others else ''}{_others(others)}")
        files += [path / name for name in images]
        if others:
            notes.append(f"{path}: left out{_others(others)}; to try such a file, name it: cnnkit predict {shell_path(path / others[0])}")
    return files, tuple(notes)


def _others(names: Sequence[str]) -> str:
    """Return the end of a sentence on files without the suffix of an image; an empty text if there are none."""
    if not names:
        return ""
    subject = counted(len(names), "file")
    return f" {subject} without the suffix of an image: {listed(names)}"


def predictions(classifier: Classifier, files: Sequence[Input], watch: DriftWatch | None = None) -> Iterator[Prediction]:
    """Yield one `Prediction` per image, in order; the rules of the classifier's file decide abstention and label sets."""
    rules = rules_of(classifier)
    empty_set = () if rules.label_sets else None
    for batch, probabilities in predicted_batches(classifier, files, watch):
        found = apply_rules(probabilities, classifier.classes, rules)
        for image in batch:
            path = name_of(image.given)
            if image.pixels is None:
                yield Prediction(path, classifier.classes, None, image.error, label_set=empty_set)
            else:
                yield replace(next(found), path=path)


def apply_rules(probabilities: NDArray[np.float32], classes: tuple[str, ...], rules: Rules) -> Iterator[Prediction]:
    """Yield a prediction without a path for each row of probabilities (N, K)."""
    accepted = rules.abstention.accepts(probabilities.max(1)) if rules.abstention else np.ones(len(probabilities), np.bool_)
    members = rules.label_sets.members(probabilities) if rules.label_sets else None
    for index, row in enumerate(probabilities):
        label_set = None if members is None else tuple(classes[k] for k in np.argsort(-row, kind="stable") if members[index, k])
        yield Prediction("", classes, row, abstained=not accepted[index], label_set=label_set)
