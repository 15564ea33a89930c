"""The exporter of ONNX files; only its writing loads torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnnkit.exporters.infer_script import infer_script
from cnnkit.exporters.onnx_facts import OPSETS
from cnnkit.exporters.onnx_session import OnnxClassifier
from cnnkit.exporters.protocol import CANVAS, FLOAT, IMAGES, LOGITS, PROBABILITIES, Exporter, ExportOptions

if TYPE_CHECKING:
    from cnnkit.model.file import Model


def _write(model: Model, path: Path, options: ExportOptions) -> None:
    """Write `model` to `path` as one ONNX file."""
    from cnnkit.exporters.onnx_graph import write_onnx

    write_onnx(model, path, options)


onnx_exporter = Exporter(
    name="onnx",
    summary="one ONNX file: uint8 images of any size in, probabilities out",
    write=_write,
    open=OnnxClassifier,
    suffix=".onnx",
    inputs=(IMAGES, CANVAS, FLOAT),
    outputs=(PROBABILITIES, LOGITS),
    half=True,
    opsets=OPSETS,
    script=infer_script,
    devices=("cpu", "cuda"),
)
