"""Every command as a plain function that prints nothing; the command line shows the result.

A function stands in the file of its name below one of the rooms, and is loaded at its first use: looking at data costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "compare": "evaluation.compare",
    "divide": "images.split",
    "evaluate": "evaluation.evaluate",
    "examine": "images.doctor",
    "explain": "inference.explain",
    "export": "inference.export",
    "find_lr": "training.lr_find",
    "predict": "inference.predict",
    "prepare": "training.prepare",
    "report": "pages.run",
    "report_comparison": "pages.comparison",
    "resume": "training.resume",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"cnnkit.api.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'cnnkit.api' has no attribute {name!r}")
