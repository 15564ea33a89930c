"""The evaluation of a run as it lies in its folder: read if it is of the model that lies there now, made if not."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from cnnkit.api.evaluation.evaluate import COLUMNS, Evaluation, evaluate, prediction_rows
from cnnkit.api.inference.samples import evaluated_split
from cnnkit.data.store.scan import Progress
from cnnkit.errors import ModelFileError
from cnnkit.files import fingerprint
from cnnkit.run_dir import RunDir, StoredMetrics

_AGAIN = "evaluate the model again: cnnkit eval --model RUN"


@dataclass(frozen=True)
class StoredPrediction:
    """A row of predictions.csv: the true and the predicted class of an image, the probability of the latter, -log p of the former."""

    path: str
    true: str
    predicted: str
    probability: float
    loss: float


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What eval/<split>/ holds: metrics.json and the rows of predictions.csv; `notes` are what evaluating just now had to say."""

    folder: Path
    metrics: StoredMetrics
    rows: list[StoredPrediction]
    fresh: bool
    notes: tuple[str, ...] = ()


def evaluated(run: RunDir, split: str | None = None, progress: Progress | None = None, *, model: Path | None = None) -> Evaluated:
    """Return the evaluation of `run` on `split` (test, or val if it has none), evaluating now if there is none of its model.

    `model` is another file of the run, such as an exported one, instead of its best.safetensors. Raises `CnnkitError` as
    `evaluate` does, `ModelFileError` for a damaged evaluation.
    """
    classes, images = run.read_record().classes, run.read_split()
    chosen = split or evaluated_split(images)
    beside = place_beside(run, model, chosen) if model else None
    folder = beside or run.evaluation(chosen)
    metrics = run.read_metrics(folder)
    if metrics is not None and metrics.model.sha256 == fingerprint(model or run.best) and metrics.tta is None:
        rows = _rows(folder / "predictions.csv", classes)
        there = {row.path for row in rows} | {bad.path for bad in metrics.unreadable}
        if all(row["path"] in there for row in images if row["split"] == chosen):
            return Evaluated(folder, metrics, rows, fresh=False)
    result = evaluate(model if model and beside else run.path, split=split, out=beside, progress=progress)
    times = f", now opened {result.opened} time{'s' * (result.opened != 1)}" if result.opened else ""
    said = f"evaluated just now on {chosen}{times}: the run had no evaluation of this model"
    return Evaluated(folder, result.to_metrics(), _rows(folder / "predictions.csv", classes), fresh=True, notes=(said, *result.notes))


def place_beside(run: RunDir, model: Path, label: str) -> Path | None:
    """Return where the evaluation of a file of `run` goes that is not its best.safetensors, so that it takes no one's place; else None."""
    return None if model.resolve() == run.best.resolve() else run.evaluation(f"{label}-{model.name}")


def _rows(file: Path, classes: Collection[str]) -> list[StoredPrediction]:
    """Return the rows of predictions.csv, none if columns are missing; raises `ModelFileError` that names a damaged row."""
    try:
        with file.open(newline="", encoding="utf-8", errors="surrogateescape") as opened:
            reader = csv.DictReader(opened)
            found = list(reader) if set(COLUMNS) <= set(reader.fieldnames or ()) else []
    except (OSError, csv.Error) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ModelFileError(f"{file}: cannot be read: {reason}; {_AGAIN}") from None
    known = set(classes)
    return [_stored(file, number, row, known) for number, row in enumerate(found, 1)]


def _stored(file: Path, number: int, row: Mapping[str, str | None], classes: set[str]) -> StoredPrediction:
    for column in ("true", "predicted"):
        if row[column] not in classes:
            raise ModelFileError(f"{file}: row {number}, column {column} (={row[column]!a}) is no class of config.json; {_AGAIN}")
    for column in ("probability", "loss"):
        if not _is_number(row[column]):
            raise ModelFileError(f"{file}: row {number}, column {column} (={row[column]!a}) must be a number; {_AGAIN}")
    path, true, predicted, probability, loss = (row[column] or "" for column in COLUMNS)
    return StoredPrediction(path, true, predicted, float(probability), float(loss))


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Answer:
    """The answer to one image: the class, its probability, and -log p of the true class in nats."""

    predicted: str
    probability: float
    loss: float


@dataclass(frozen=True)
class Record:
    """The answers of one model by path, the images it could not read, and whether it was evaluated for this (`fresh`), with notes."""

    answers: Mapping[str, Answer]
    unreadable: Mapping[str, str]
    fresh: bool
    notes: tuple[str, ...]


def of_files(found: Evaluated) -> Record:
    """Return the answers that the files of an evaluation hold."""
    answers = {row.path: Answer(row.predicted, row.probability, row.loss) for row in found.rows}
    return Record(answers, {image.path: image.error for image in found.metrics.unreadable}, found.fresh, found.notes)


def of_evaluation(evaluation: Evaluation) -> Record:
    """Return the answers of an evaluation that was made just now."""
    rows = prediction_rows(evaluation, all_probabilities=False)
    answers = {str(row["path"]): Answer(str(row["predicted"]), float(str(row["probability"])), float(str(row["loss"]))) for row in rows}
    return Record(answers, dict(evaluation.bad), fresh=True, notes=evaluation.notes)
