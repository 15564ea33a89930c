"""cnnkit turns a folder of images into a classifier one can trust.

Public names are loaded when they are first used, so `import cnnkit` costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cnnkit.architecture import Architecture, Family, Pretrained
from cnnkit.errors import CnnkitError
from cnnkit.extension.values import Augmentation, Loss, Metric, Optimizer

if TYPE_CHECKING:
    from cnnkit.api.evaluation.compare import compare
    from cnnkit.api.evaluation.evaluate import evaluate
    from cnnkit.api.exports.export import export
    from cnnkit.api.inference.predict import predict
    from cnnkit.api.inference.trained_model import load_model
    from cnnkit.api.training.train import train
    from cnnkit.api.tuning.tune import tune

    __version__: str

__all__ = [
    "Architecture",
    "Augmentation",
    "CnnkitError",
    "Family",
    "Loss",
    "Metric",
    "Optimizer",
    "Pretrained",
    "__version__",
    "compare",
    "evaluate",
    "export",
    "load_model",
    "predict",
    "train",
    "tune",
]

_LAZY = {
    "train": "cnnkit.api.training.train",
    "tune": "cnnkit.api.tuning.tune",
    "evaluate": "cnnkit.api.evaluation.evaluate",
    "predict": "cnnkit.api.inference.predict",
    "export": "cnnkit.api.exports.export",
    "compare": "cnnkit.api.evaluation.compare",
    "load_model": "cnnkit.api.inference.trained_model",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name == "__version__":
        from importlib.metadata import version  # takes longer to import than cnnkit

        return version("cnnkit")
    raise AttributeError(f"module 'cnnkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
