"""The evaluation of a model on out-of-distribution images: a prediction per file and the figures of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.evaluation.trained_images import Lookup, RunImages, look_up
from cnnkit.api.inference.predict import Prediction, find_images, predictions
from cnnkit.data.progress import Progress
from cnnkit.data.source import SPLITS
from cnnkit.data.sources.arrays import ArraysSource
from cnnkit.data.store.scan import scan
from cnnkit.errors import DataError
from cnnkit.files import write_csv
from cnnkit.metrics.abstention import Abstention
from cnnkit.metrics.ood import OodReport, ood_report
from cnnkit.metrics.units import Units
from cnnkit.model.classifier import Classifier


@dataclass(frozen=True)
class OodImages:
    """The `files` to classify; `lookup` tells how many images of the run were among them, None if the run is unknown."""

    files: tuple[Path, ...] = ()
    lookup: Lookup | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class OodEvaluation:
    """The report, and one prediction per file; a prediction is abstained if it is below the threshold of the report."""

    report: OodReport
    predictions: tuple[Prediction, ...]
    lookup: Lookup | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the key ``ood`` of metrics.json."""
        unreadable = [{"path": prediction.path, "error": prediction.error} for prediction in self.predictions if prediction.error]
        lookup = {"lookup": self.lookup.to_dict()} if self.lookup else {}
        return {**self.report.to_dict(), "unreadable": unreadable, **lookup}

    def write(self, path: Path) -> None:
        """Write ood.csv, with the columns of ``predict --out``."""
        columns = ("path", "predicted", "probability", "abstained", "error")
        rows = [{**prediction.row(), "abstained": str(prediction.abstained).lower()} for prediction in self.predictions]
        write_csv(path, columns, [{column: row[column] for column in columns} for row in rows])


def ood_files(folder: str | Path) -> list[Path]:
    """Return the images in `folder` and its subfolders; raises `DataError` without any."""
    if not Path(folder).is_dir():
        raise DataError(f"--ood {folder}: no such folder; name a folder of images that belong to none of the model's classes")
    return find_images([folder])[0]


def without_own_images(
    files: Sequence[Path], run: RunImages | None, unknown: str, *, include_trained: bool = False, progress: Progress | None = None
) -> OodImages:
    """Leave out of `files` the images of the `run` and their near copies, unless `include_trained`: they are not out-of-distribution.

    `unknown` is the note if there is no `run`. Raises `DataError` if no readable image is left.
    """
    if run is None:
        return OodImages(tuple(files), notes=(f"--ood: {unknown}",))
    source = ArraysSource([str(file) for file in files], ["unknown"] * len(files))
    found = scan(source, source.records, cache="ram", progress=progress)
    readable = np.flatnonzero(found.facts.readable).tolist()
    origins, by, limits = look_up(run, found, readable, SPLITS)
    lookup = Lookup(run.name, len(readable), tuple(origins.values()), by, include_trained, limits)
    notes = tuple(f"--ood: {note}" for note in limits)
    if not origins:
        return OodImages(tuple(files), lookup, notes)
    near = sum(origin.near for origin in origins.values())
    count = (
        f"--ood: {len(origins):,} of {len(readable):,} images are images of {run.name}{f', {near:,} of them near copies' if near else ''}"
    )
    if include_trained:
        return OodImages(tuple(files), lookup, (f"{count}; --include-trained counts them as out-of-distribution", *notes))
    if len(origins) == len(readable):
        raise DataError(f"{count}, so no image is left; name a folder of images that belong to none of the model's classes")
    kept = tuple(file for row, file in enumerate(files) if row not in origins)
    return OodImages(kept, lookup, (f"{count}; they are left out, and --include-trained counts them too", *notes))


def evaluate_ood(
    classifier: Classifier,
    files: Sequence[Path],
    top: NDArray[np.floating[Any]],
    rule: Abstention | None,
    progress: Progress | None = None,
    units: Units | None = None,
) -> OodEvaluation:
    """Classify out-of-distribution `files` and compare them with the evaluated images by their top probabilities `top` (N,).

    `units` are those of the evaluated images. The threshold is that of `rule`; without a rule `ood_report` chooses one.
    Raises `DataError` if no file can be read.
    """
    found: list[Prediction] = []
    for prediction in predictions(classifier, files):
        found.append(prediction)
        if progress:
            progress(len(found), len(files))
    ood_top = [probability for prediction in found for _, probability in prediction.top(1)]
    if not ood_top:
        raise DataError(f"--ood: none of {len(files)} images can be read, such as {found[0].path}: {found[0].error}")
    report = ood_report(top, ood_top, rule.threshold if rule else None, units)
    return OodEvaluation(report, tuple(_apply_threshold(prediction, report.threshold) for prediction in found))


def _apply_threshold(prediction: Prediction, threshold: float) -> Prediction:
    """Return `prediction`, abstained if its top probability is below `threshold`."""
    return replace(prediction, abstained=any(probability < threshold for _, probability in prediction.top(1)))
