"""A model repository of NVIDIA Triton: ``NAME/config.pbtxt``, ``NAME/labels.txt`` and ``NAME/1/model.onnx``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cnnkit.exporters.protocol import FLOAT, ExportOptions, input_shape
from cnnkit.exporters.session_classifier import MAX_BATCH_SIZE
from cnnkit.files import write_bytes, write_text
from cnnkit.model.header import ModelHeader

VERSION = "1"
LABELS_FILE = "labels.txt"


def write_repository(folder: Path, name: str, file: Path, header: ModelHeader, options: ExportOptions) -> Path:
    """Write the ONNX `file` into the repository `folder` as model `name`; return the folder of the model.

    The configuration comes last, as Triton loads no model without it. Characters of `name` that a path or URL would need escaped become
    hyphens.
    """
    model = folder / (re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "model")
    write_bytes(model / VERSION / "model.onnx", file.read_bytes())
    write_text(model / LABELS_FILE, "".join(f"{' '.join(label.split())}\n" for label in header.classes))
    write_text(model / "config.pbtxt", configuration(model.name, header, options))
    return model


def configuration(name: str, header: ModelHeader, options: ExportOptions) -> str:
    """Return the text of config.pbtxt.

    The first dimension of every tensor is that of the batch, which Triton leaves out. The labels have no other dimension: one value a
    request, reshaped to none.
    """
    dims = [-1 if isinstance(length, str) else length for length in input_shape(options.input, header.preprocessing)[1:]]
    dtype = "TYPE_FP32" if options.input == FLOAT else "TYPE_UINT8"
    return f"""\
name: "{name}"
backend: "onnxruntime"
max_batch_size: {MAX_BATCH_SIZE}
input [
  {{ name: "{options.input}" data_type: {dtype} dims: {_list(dims)} }}
]
output [
  {{ name: "{options.output}" data_type: TYPE_FP32 dims: {_list([len(header.classes)])} label_filename: "{LABELS_FILE}" }},
  {{ name: "labels" data_type: TYPE_INT64 dims: [ 1 ] reshape {{ shape: [ ] }} }}
]
dynamic_batching {{ }}
"""


def _list(numbers: Sequence[int]) -> str:
    return f"[ {', '.join(map(str, numbers))} ]"
