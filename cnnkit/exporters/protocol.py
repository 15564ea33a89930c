"""The exporter contract: what a package provides under the entry-point group ``cnnkit.exporters``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cnnkit.model.classifier import Classifier
from cnnkit.model.file import Model


@dataclass(frozen=True)
class Exporter:
    """One format a model can be exported to.

    `write(model, path)` writes one self-contained file: decoded images in, probabilities out; what it returns is ignored.
    `open(path)` returns the file as a `Classifier` and raises `ModelFileError` for one it did not write. The suffix of the
    files is the exporter's `name`, which is that of its entry point: ``onnx`` writes and opens ``.onnx``.
    """

    name: str
    summary: str
    write: Callable[[Model, Path], object]
    open: Callable[[Path], Classifier]

    @property
    def suffix(self) -> str:
        """The suffix of the files, with its dot."""
        return f".{self.name}"
