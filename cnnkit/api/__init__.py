"""The commands as plain functions, which print nothing and return their results.

A function is imported at its first use, so that commands without a network import no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = {
    "compare": "evaluation.compare",
    "divide": "images.split",
    "evaluate": "evaluation.evaluate",
    "examine": "images.doctor",
    "explain": "inference.explain",
    "export": "exports.export",
    "find_lr": "training.lr_find",
    "predict": "inference.predict",
    "prepare": "training.prepare",
    "report": "pages.run",
    "report_comparison": "pages.comparison",
    "rerun": "training.rerun",
    "resume": "training.resume",
    "train": "training.train",
    "tune": "tuning.tune",
}


def __getattr__(name: str) -> Any:
    """Import and return the function `name`."""
    if name in _MODULES:
        return getattr(import_module(f"cnnkit.api.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'cnnkit.api' has no attribute {name!r}")
