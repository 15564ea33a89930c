"""The exporter of ONNX files; only its writing loads torch, and onnxruntime runs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnnkit.exporters.infer_script import infer_script
from cnnkit.exporters.onnx_facts import OPSETS
from cnnkit.exporters.protocol import CANVAS, FLOAT, IMAGES, LOGITS, PROBABILITIES, Exporter, ExportOptions
from cnnkit.exporters.session_classifier import SessionClassifier
from cnnkit.exporters.session_process import Runtime

if TYPE_CHECKING:
    import onnxruntime

    from cnnkit.model.file import Model

ERROR_SEVERITY = 3  # of onnxruntime's log: its warnings are about the graph and do not help a user


def _make_session(path: Path) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERROR_SEVERITY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the cores to the decoding
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


ONNXRUNTIME = Runtime("onnxruntime", "onnxruntime", "an ONNX file", "cnnkit export --onnx", _make_session)


class OnnxClassifier(SessionClassifier):
    """An ONNX file that ``cnnkit export --onnx`` wrote, run by onnxruntime."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, ONNXRUNTIME)


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
)
