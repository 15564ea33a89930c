"""Facts about an ONNX file, read without running it: inputs, outputs, operators and metadata."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnkit.errors import ModelFileError
from cnnkit.files import parse_json

if TYPE_CHECKING:
    from onnx import ValueInfoProto


# The first is torch's own, so that nothing is converted; onnxruntime 1.14 and later read it. The last is the newest that onnxruntime
# 1.20 reads, the lowest version that cnnkit allows.
OPSETS = (18, 19, 20, 21)
MAX_DIMENSIONS = 64  # of a tensor in torch


@dataclass(frozen=True)
class TensorInfo:
    """One input or output: its name, its number type, and its dimensions; a dynamic dimension has a name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class OnnxFacts:
    """The interface and the sizes of an ONNX file.

    `opset` is by domain; the standard domain is empty. `constants` is the number of stored numbers. `metadata` are the
    entries of the file, parsed if they are JSON.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    opset: dict[str, int]
    nodes: int
    constants: int
    metadata: dict[str, Any]
    producer: str
    bytes: int


def read_onnx_facts(path: Path) -> OnnxFacts:
    """Return the facts about the ONNX file `path`; raises `ModelFileError` if it is not an ONNX file."""
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # protobuf raises its own type, and others for damaged bytes
        raise ModelFileError(f"{path}: not an ONNX file ({error}); write one with: cnnkit export --onnx") from error
    graph = model.graph
    if not graph.node:
        raise ModelFileError(f"{path}: not an ONNX file (it has no graph); write one with: cnnkit export --onnx")
    if any(len(tensor.dims) > MAX_DIMENSIONS for tensor in graph.initializer):
        raise ModelFileError(f"{path}: a constant has more than {MAX_DIMENSIONS} dimensions; write another file with: cnnkit export --onnx")
    return OnnxFacts(
        inputs=tuple(map(_tensor_info, graph.input)),
        outputs=tuple(map(_tensor_info, graph.output)),
        opset={entry.domain: entry.version for entry in model.opset_import},
        nodes=len(graph.node),
        constants=sum(math.prod(tensor.dims) for tensor in graph.initializer),
        metadata={entry.key: _parse(entry.value) for entry in model.metadata_props},
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        bytes=path.stat().st_size,
    )


def _tensor_info(value: ValueInfoProto) -> TensorInfo:
    import onnx

    tensor = value.type.tensor_type
    types = onnx.TensorProto.DataType
    dtype = types.Name(tensor.elem_type).lower() if tensor.elem_type in types.values() else f"type {tensor.elem_type}"
    return TensorInfo(value.name, dtype, tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim))


def _parse(text: str) -> Any:
    try:
        return parse_json(text, finite=True)
    except ValueError:
        return text
