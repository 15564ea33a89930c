"""What a model answers to the images of a split: as an evaluation left it in the run directory, or as one has it in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cnnkit.api.evaluation.evaluate import Evaluation, prediction_rows
from cnnkit.api.evaluation.stored_evaluation import Evaluated


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
