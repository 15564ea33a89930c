"""Where a run comes from: its data and the versions of what made it."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from cnnkit.data.dataset import Dataset
from cnnkit.data.source import SPLITS


def data_facts(name: str, dataset: Dataset) -> dict[str, Any]:
    """Return what identifies the data: its name, a fingerprint of all content, labels and sides, and images per split."""
    return {"name": name, "sha256": dataset.fingerprint, "images": {split: len(dataset.of(split)) for split in SPLITS}}


def source_location(data: str) -> str:
    """Return ``--data`` in a form that finds the same source from any working directory."""
    return str(Path(data).resolve()) if Path(data).exists() else data


def versions(package: str) -> dict[str, str]:
    """Return the versions of Python, of what computes, and of the `package` the architecture comes from."""
    names = {"cnnkit", "torch", "torchvision", "timm", "numpy", "Pillow", package}
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in sorted(names, key=str.lower)}}
