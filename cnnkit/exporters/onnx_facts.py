"""What an ONNX file says of itself: inputs, outputs, operators and metadata. Nothing is run."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnkit.errors import ModelFileError

if TYPE_CHECKING:
    from onnx import ValueInfoProto


@dataclass(frozen=True)
class Face:
    """One input or output: its name, the type of its numbers, and its dimensions, named where they are dynamic."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class OnnxFacts:
    """An ONNX file from outside: `opset` by domain (the standard one is empty); `constants` counts the numbers it holds.

    `metadata` are its entries, those that are JSON read as such.
    """

    inputs: tuple[Face, ...]
    outputs: tuple[Face, ...]
    opset: dict[str, int]
    nodes: int
    constants: int
    metadata: dict[str, Any]
    producer: str
    bytes: int


def read_onnx_facts(path: Path) -> OnnxFacts:
    """Return what the ONNX file `path` says of itself; raises `ModelFileError` if it is none."""
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # protobuf's own kind of error, and whatever damaged bytes happen to mean
        raise ModelFileError(f"{path}: not an ONNX file ({error}); write one with: cnnkit export --onnx") from error
    graph = model.graph
    if not graph.node:
        raise ModelFileError(f"{path}: not an ONNX file: no graph in it; write one with: cnnkit export --onnx")
    return OnnxFacts(
        inputs=tuple(map(_face, graph.input)),
        outputs=tuple(map(_face, graph.output)),
        opset={entry.domain: entry.version for entry in model.opset_import},
        nodes=len(graph.node),
        constants=sum(math.prod(tensor.dims) for tensor in graph.initializer),
        metadata={entry.key: _value(entry.value) for entry in model.metadata_props},
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        bytes=path.stat().st_size,
    )


def _face(value: ValueInfoProto) -> Face:
    import onnx

    tensor = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return Face(value.name, dtype, tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
