"""What cnnkit does, as plain functions that print nothing: the command line renders what these return.

They are loaded when they are first used: looking at data costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnkit.api.evaluation.compare import Comparison, compare
    from cnnkit.api.evaluation.evaluate import Evaluation, evaluate
    from cnnkit.api.evaluation.fit_rules import Decided, decide
    from cnnkit.api.images.doctor import examine
    from cnnkit.api.images.split import Division, divide
    from cnnkit.api.inference.explain import explain
    from cnnkit.api.inference.export import Export, export
    from cnnkit.api.inference.predict import Prediction, predict
    from cnnkit.api.pages.comparison import ComparisonReport, report_comparison
    from cnnkit.api.pages.run import Report, report
    from cnnkit.api.speed.benchmark import Bench
    from cnnkit.api.training.job import TrainingJob
    from cnnkit.api.training.lr_find import LrFinding, find_lr
    from cnnkit.api.training.more_data import MoreData
    from cnnkit.api.training.prepare import prepare
    from cnnkit.api.training.resume import resume
    from cnnkit.api.training.train import TrainingResult, train

__all__ = [
    "Bench",
    "Comparison",
    "ComparisonReport",
    "Decided",
    "Division",
    "Evaluation",
    "Export",
    "LrFinding",
    "MoreData",
    "Prediction",
    "Report",
    "TrainingJob",
    "TrainingResult",
    "compare",
    "decide",
    "divide",
    "evaluate",
    "examine",
    "explain",
    "export",
    "find_lr",
    "predict",
    "prepare",
    "report",
    "report_comparison",
    "resume",
    "train",
]

_HOMES = {
    "evaluation.compare": ("Comparison", "compare"),
    "evaluation.evaluate": ("Evaluation", "evaluate"),
    "evaluation.fit_rules": ("Decided", "decide"),
    "images.doctor": ("examine",),
    "images.split": ("Division", "divide"),
    "inference.explain": ("explain",),
    "inference.export": ("Export", "export"),
    "inference.predict": ("Prediction", "predict"),
    "pages.comparison": ("ComparisonReport", "report_comparison"),
    "pages.run": ("Report", "report"),
    "speed.benchmark": ("Bench",),
    "training.job": ("TrainingJob",),
    "training.lr_find": ("LrFinding", "find_lr"),
    "training.more_data": ("MoreData",),
    "training.prepare": ("prepare",),
    "training.resume": ("resume",),
    "training.train": ("TrainingResult", "train"),
}
_LAZY = {name: f"cnnkit.api.{module}" for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'cnnkit.api' has no attribute {name!r}")
