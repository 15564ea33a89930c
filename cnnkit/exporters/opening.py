"""The opening of a model file or an exported file as a `Classifier`, by its suffix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnnkit.model.classifier import Classifier
from cnnkit.registry import EXPORTERS, find, load

if TYPE_CHECKING:
    import torch

    from cnnkit.exporters.protocol import Exporter


def open_classifier(path: str | Path, *, device: str | torch.device = "cpu") -> Classifier:
    """Open a model file or an exported file; the suffix names the exporter, so the exporter onnx opens ``.onnx``.

    The network of a model file runs on `device`.

    Raises `ModelFileError` if the file is missing or does not fit its suffix, `PluginError` if the architecture is not
    installed.
    """
    file = Path(path)
    name = file.suffix.lower().removeprefix(".")
    if name in find(EXPORTERS):
        exporter: Exporter = load(EXPORTERS, name)[0]
        return exporter.open(file)
    from cnnkit.model.file import load_model  # loads torch, which an exported file does not need
    from cnnkit.model.torch_classifier import TorchClassifier

    return TorchClassifier(load_model(file), device=device)
