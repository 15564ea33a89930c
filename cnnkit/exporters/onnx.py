"""The exporter of ONNX files; only its writing loads torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnnkit.exporters.onnx_session import OnnxClassifier
from cnnkit.exporters.protocol import Exporter

if TYPE_CHECKING:
    from cnnkit.model.file import Model


def _write(model: Model, path: Path) -> None:
    """Write `model` to `path` as one ONNX file."""
    from cnnkit.exporters.onnx_graph import write_onnx

    write_onnx(model, path)


onnx_exporter = Exporter(
    name="onnx", summary="one ONNX file: uint8 images of any size in, probabilities out", write=_write, open=OnnxClassifier
)
