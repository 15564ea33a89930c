"""The stored evaluation of a run: read from its folder if it describes the current model, otherwise made now."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from cnnkit.api.evaluation.evaluate import evaluate
from cnnkit.api.evaluation.evaluation import Evaluation
from cnnkit.api.evaluation.evaluation_files import COLUMNS, prediction_rows
from cnnkit.api.evaluation.identity import Images, evaluation_folder
from cnnkit.api.inference.samples import evaluated_split
from cnnkit.data.progress import Progress
from cnnkit.errors import ModelFileError, counted
from cnnkit.files import fingerprint, read_checked, restored
from cnnkit.run_dir import RunDir, StoredMetrics

_REMEDY = "evaluate the model again: cnnkit eval --model RUN"


@dataclass(frozen=True)
class StoredPrediction:
    """A row of predictions.csv: true and predicted class, the probability of the predicted class, the loss in nats (-log p of `true`)."""

    path: str
    true: str
    predicted: str
    probability: float
    loss: float


@dataclass(frozen=True, eq=False)
class StoredEvaluation:
    """The content of eval/<split>/: metrics.json and the rows of predictions.csv.

    `fresh` tells whether the model was evaluated just now; `notes` are the notes of that evaluation.
    """

    folder: Path
    metrics: StoredMetrics
    rows: list[StoredPrediction]
    fresh: bool
    notes: tuple[str, ...] = ()


def load_or_evaluate(
    run: RunDir, split: str | None = None, progress: Progress | None = None, *, model: Path | None = None, device: str = "auto"
) -> StoredEvaluation:
    """Return the stored evaluation of `run` on `split`; evaluate now if there is no complete one of the current model.

    The default split is test, or val without a test split. `model` is another file of the run, such as an exported one, instead of
    best.safetensors. `device` is that of the network. Raises `CnnkitError` as `evaluate` does, and `ModelFileError` for a damaged
    evaluation.
    """
    classes, images = run.read_record().classes, run.read_split()
    chosen = split or evaluated_split(images)
    file = model or run.best
    folder = evaluation_folder(run, file, Images(chosen))
    metrics = run.read_metrics(folder)
    if metrics is not None and metrics.model.sha256 == fingerprint(file) and metrics.tta is None and metrics.images is None:
        rows = _read_rows(folder / "predictions.csv", classes)
        known = {row.path for row in rows} | {image.path for image in metrics.unreadable}
        if known == {row["path"] for row in images if row["split"] == chosen}:
            return StoredEvaluation(folder, metrics, rows, fresh=False)
    result = evaluate(run.path if file.resolve() == run.best.resolve() else file, split=split, device=device, progress=progress)
    opened = f", now opened {counted(result.opened, 'time')}" if result.opened else ""
    note = f"evaluated just now on {chosen}{opened}: the run had no evaluation of this model"
    rows = _read_rows(folder / "predictions.csv", classes)
    return StoredEvaluation(folder, result.to_metrics(), rows, fresh=True, notes=(note, *result.notes))


def _read_rows(file: Path, classes: Collection[str]) -> list[StoredPrediction]:
    """Return the rows of predictions.csv, or no rows if a column is missing; raises `ModelFileError`, which names the damaged row."""
    try:
        text = restored(read_checked(file, _REMEDY).decode("utf-8", "surrogateescape"))
        reader = csv.DictReader(io.StringIO(text, newline=""))
        found = list(reader) if set(COLUMNS) <= set(reader.fieldnames or ()) else []
    except (OSError, csv.Error) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ModelFileError(f"{file}: cannot be read: {reason}; {_REMEDY}") from None
    known = set(classes)
    return [_parse_row(file, number, row, known) for number, row in enumerate(found, 1)]


def _parse_row(file: Path, number: int, row: Mapping[str, str | None], classes: set[str]) -> StoredPrediction:
    for column in ("true", "predicted"):
        if row[column] not in classes:
            raise ModelFileError(f"{file}: row {number}, column {column} (={row[column]!a}) is no class of config.json; {_REMEDY}")
    for column in ("probability", "loss"):
        if not _is_number(row[column]):
            raise ModelFileError(f"{file}: row {number}, column {column} (={row[column]!a}) must be a number; {_REMEDY}")
    path, true, predicted, probability, loss = (row[column] or "" for column in COLUMNS)
    return StoredPrediction(path, true, predicted, float(probability), float(loss))


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class PredictionsByPath:
    """The predictions of one model, and the images it could not read with the error, both by path.

    `fresh` tells whether the model was evaluated just now; `notes` are the notes of that evaluation.
    """

    by_path: Mapping[str, StoredPrediction]
    unreadable: Mapping[str, str]
    fresh: bool
    notes: tuple[str, ...]


def predictions_of_stored(stored: StoredEvaluation) -> PredictionsByPath:
    """Return the predictions of a stored evaluation by path."""
    by_path = {row.path: row for row in stored.rows}
    unreadable = {image.path: image.error for image in stored.metrics.unreadable}
    return PredictionsByPath(by_path, unreadable, stored.fresh, stored.notes)


def predictions_of_fresh(evaluation: Evaluation) -> PredictionsByPath:
    """Return the predictions of an evaluation made just now by path."""
    by_path: dict[str, StoredPrediction] = {}
    for row in prediction_rows(evaluation, all_probabilities=False):
        path, true, predicted = (str(row[column]) for column in ("path", "true", "predicted"))
        probability, loss = (float(str(row[column])) for column in ("probability", "loss"))
        by_path[path] = StoredPrediction(path, true, predicted, probability, loss)
    return PredictionsByPath(by_path, dict(evaluation.bad), fresh=True, notes=evaluation.notes)
