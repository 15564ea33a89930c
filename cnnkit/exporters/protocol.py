"""The exporter contract: the value behind an entry point of the group ``cnnkit.exporters``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnkit.model.classifier import Classifier

if TYPE_CHECKING:
    from cnnkit.model.file import Model


@dataclass(frozen=True)
class Exporter:
    """An export format.

    `write(model, path)` writes one self-contained file that maps decoded images to probabilities; its result is ignored.
    `open(path)` returns the file as a `Classifier`, and raises `ModelFileError` if the exporter did not write it. `name` is
    the name of the entry point and the suffix of the files: ``onnx`` writes and opens ``.onnx``.
    """

    name: str
    summary: str
    write: Callable[[Model, Path], object]
    open: Callable[[Path], Classifier]

    @property
    def suffix(self) -> str:
        """The suffix of the files, with its dot."""
        return f".{self.name}"
