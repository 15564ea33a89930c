"""The evaluation of a run as it lies in its folder: read if it is of the model that lies there now, made if not."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnkit.api.evaluation.evaluate import COLUMNS, Evaluation, evaluate, prediction_rows
from cnnkit.api.inference.samples import evaluated_split
from cnnkit.data.store.scan import Progress
from cnnkit.errors import ModelFileError
from cnnkit.files import fingerprint
from cnnkit.run_dir import RunDir


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What eval/<split>/ holds: metrics.json and the rows of predictions.csv; `notes` are what evaluating just now had to say."""

    folder: Path
    metrics: Mapping[str, Any]
    rows: list[dict[str, str]]
    fresh: bool
    notes: tuple[str, ...] = ()


def evaluated(run: RunDir, split: str | None = None, progress: Progress | None = None, *, model: Path | None = None) -> Evaluated:
    """Return the evaluation of `run` on `split` (test, or val if it has none), evaluating now if there is none of its model.

    `model` is another file of the run, such as an exported one, instead of its best.safetensors. Raises `CnnkitError` as
    `evaluate` does.
    """
    images = run.read_split()
    chosen = split or evaluated_split(images)
    beside = place_beside(run, model, chosen) if model else None
    folder = beside or run.evaluation(chosen)
    metrics = _read(folder / "metrics.json")
    if metrics is not None and metrics.get("model", {}).get("sha256") == fingerprint(model or run.best) and "tta" not in metrics:
        rows = _rows(folder / "predictions.csv")
        there = {row["path"] for row in rows} | {bad["path"] for bad in metrics.get("unreadable", [])}
        if all(row["path"] in there for row in images if row["split"] == chosen):
            return Evaluated(folder, metrics, rows, fresh=False)
    result = evaluate(model if model and beside else run.path, split=split, out=beside, progress=progress)
    times = f", now opened {result.opened} time{'s' * (result.opened != 1)}" if result.opened else ""
    said = f"evaluated just now on {chosen}{times}: the run had no evaluation of this model"
    return Evaluated(
        folder, _read(folder / "metrics.json") or {}, _rows(folder / "predictions.csv"), fresh=True, notes=(said, *result.notes)
    )


def place_beside(run: RunDir, model: Path, label: str) -> Path | None:
    """Return where the evaluation of a file of `run` goes that is not its best.safetensors, so that it takes no one's place; else None."""
    return None if model.resolve() == run.best.resolve() else run.evaluation(f"{label}-{model.name}")


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _rows(file: Path) -> list[dict[str, str]]:
    """Return the rows of predictions.csv; none if columns are missing."""
    try:
        with file.open(newline="", encoding="utf-8", errors="surrogateescape") as opened:
            reader = csv.DictReader(opened)
            return list(reader) if set(COLUMNS) <= set(reader.fieldnames or ()) else []
    except OSError as error:
        raise ModelFileError(f"{file}: cannot be read: {error.strerror or error}; make it again: cnnkit eval") from None


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
    unreadable = {str(each["path"]): str(each["error"]) for each in found.metrics.get("unreadable", [])}
    return Record({row["path"]: _answer(row) for row in found.rows}, unreadable, found.fresh, found.notes)


def of_evaluation(evaluation: Evaluation) -> Record:
    """Return the answers of an evaluation that was made just now."""
    answers = {str(row["path"]): _answer(row) for row in prediction_rows(evaluation, all_probabilities=False)}
    return Record(answers, dict(evaluation.bad), fresh=True, notes=evaluation.notes)


def _answer(row: Mapping[str, object]) -> Answer:
    return Answer(str(row["predicted"]), float(str(row["probability"])), float(str(row["loss"])))
