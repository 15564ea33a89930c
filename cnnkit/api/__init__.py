"""What cnnkit does, as plain functions that print nothing: the command line renders what these return."""

from __future__ import annotations

from cnnkit.api.evaluation import Evaluation, evaluate
from cnnkit.api.exporting import Export, export
from cnnkit.api.prediction import Prediction, predict
from cnnkit.api.resuming import resume
from cnnkit.api.training import TrainingJob, TrainingResult, prepare, train

__all__ = [
    "Evaluation",
    "Export",
    "Prediction",
    "TrainingJob",
    "TrainingResult",
    "evaluate",
    "export",
    "predict",
    "prepare",
    "resume",
    "train",
]
