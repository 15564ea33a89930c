"""cnnkit turns a folder of images into a classifier one can trust.

Public names are loaded when they are first used, so `import cnnkit` costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cnnkit.architecture import Architecture, Family, Pretrained
from cnnkit.errors import CnnkitError

if TYPE_CHECKING:
    from cnnkit.api import compare, evaluate, export, predict, train
    from cnnkit.model.file import load_model

__all__ = ["Architecture", "CnnkitError", "Family", "Pretrained", "compare", "evaluate", "export", "load_model", "predict", "train"]

_LAZY = {
    "train": "cnnkit.api",
    "evaluate": "cnnkit.api",
    "predict": "cnnkit.api",
    "export": "cnnkit.api",
    "compare": "cnnkit.api",
    "load_model": "cnnkit.model.file",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'cnnkit' has no attribute {name!r}")
