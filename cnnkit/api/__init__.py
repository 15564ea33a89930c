"""What cnnkit does, as plain functions that print nothing: the command line renders what these return.

They are loaded when they are first used: looking at data costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnkit.api.benchmarking import Bench
    from cnnkit.api.comparing import Comparison, compare
    from cnnkit.api.deciding import Decided, decide
    from cnnkit.api.evaluation import Evaluation, evaluate
    from cnnkit.api.explaining import Explanation, explain
    from cnnkit.api.exporting import Export, export
    from cnnkit.api.health import examine
    from cnnkit.api.lr_finding import LrFinding, find_lr
    from cnnkit.api.more_data import MoreData
    from cnnkit.api.one_call import TrainingResult, train
    from cnnkit.api.prediction import Prediction, predict
    from cnnkit.api.reporting import Report, report
    from cnnkit.api.reporting_comparison import ComparisonReport, report_comparison
    from cnnkit.api.resuming import resume
    from cnnkit.api.splitting import Division, divide
    from cnnkit.api.training import TrainingJob, prepare

__all__ = [
    "Bench",
    "Comparison",
    "ComparisonReport",
    "Decided",
    "Division",
    "Evaluation",
    "Explanation",
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
    "deciding": ("Decided", "decide"),
    "evaluation": ("Evaluation", "evaluate"),
    "explaining": ("Explanation", "explain"),
    "exporting": ("Export", "export"),
    "health": ("examine",),
    "prediction": ("Prediction", "predict"),
    "splitting": ("Division", "divide"),
    "benchmarking": ("Bench",),
    "comparing": ("Comparison", "compare"),
    "lr_finding": ("LrFinding", "find_lr"),
    "reporting": ("Report", "report"),
    "reporting_comparison": ("ComparisonReport", "report_comparison"),
    "more_data": ("MoreData",),
    "resuming": ("resume",),
    "one_call": ("TrainingResult", "train"),
    "training": ("TrainingJob", "prepare"),
}
_LAZY = {name: f"cnnkit.api.{module}" for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'cnnkit.api' has no attribute {name!r}")
