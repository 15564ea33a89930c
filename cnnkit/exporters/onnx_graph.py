"""The graph of an ONNX file, which maps decoded images of any size to probabilities.

The input is `images` uint8 (N, H, W, 3) RGB with dynamic N, H and W. The outputs are `probabilities` float32 (N, K) and
`labels` int64 (N,). Preprocessing, temperature and softmax are part of the graph. The metadata hold `classes`, a JSON list in
index order, and the rules of the model. These are `temperature` and `calibration` (how it was fitted), `label_sets`,
`fingerprint` and `abstention`, with the `threshold` below which the model abstains.
"""

from __future__ import annotations

import copy
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cnnkit.errors import ModelFileError
from cnnkit.model.file import Model, ModelHeader
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.rules import to_metadata

if TYPE_CHECKING:
    import onnx

OPSET = 18  # torch's own, so that nothing is converted; onnxruntime 1.14 and later read it
MAX_WEIGHT_BYTES = 2**31 - 2**20  # a protobuf message holds 2 GiB, of which 1 MiB is for the graph


class EndToEnd(nn.Module):
    """The whole `model` as one module: uint8 (N, H, W, 3) to probabilities (N, K) float32 and labels (N,) int64."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.preprocess = Preprocess(model.header.preprocessing)
        self.network = copy.deepcopy(model.module).to("cpu", torch.float32)
        self.temperature = model.header.temperature

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Classify images (N, H, W, 3)."""
        probabilities = (self.network(self.preprocess(images)) / self.temperature).softmax(1)
        return probabilities, probabilities.argmax(1)


def write_onnx(model: Model, path: Path) -> None:
    """Write `model` to `path` as one ONNX file; the same model results in the same bytes.

    Raises `ModelFileError` if the weights exceed the 2 GiB of one file.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.module.state_dict().values())
    if weights > MAX_WEIGHT_BYTES:
        raise ModelFileError(f"{model.path}: its weights take {weights / 2**30:.1f} GiB; one ONNX file holds at most 2 GiB")
    import onnx

    proto = _translate(EndToEnd(model).eval())
    _remove_notes(proto)
    onnx.helper.set_model_props(proto, metadata(model.header))
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def metadata(header: ModelHeader) -> dict[str, str]:
    """Return the metadata of the ONNX file; values that are not text are JSON."""
    return {
        "classes": json.dumps(header.classes, ensure_ascii=False),
        "preprocessing": header.preprocessing.model_dump_json(),
        "arch": header.arch,
        "options": json.dumps(header.options),
        "training": json.dumps(header.training),
        "cnnkit_version": version("cnnkit"),
        **to_metadata(header),
    }


def _translate(module: nn.Module) -> onnx.ModelProto:
    """Trace `module` and translate the trace, with named dynamic dimensions."""
    # Two images, of different odd height and width: torch.export would treat a 1 or equal dimensions as constants.
    sample = torch.zeros((2, 37, 41, 3), dtype=torch.uint8)
    dimension = torch.export.Dim
    program = torch.onnx.export(
        module,
        (sample,),
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["probabilities", "labels"],
        dynamic_shapes={"images": {0: dimension("N"), 1: dimension("H"), 2: dimension("W")}},
        verbose=False,
    )
    if program is None:  # only the old, script-based exporter returns nothing
        raise TypeError("torch.onnx.export returned no program")
    return program.model_proto


def _remove_notes(proto: onnx.ModelProto) -> None:
    """Remove torch's notes on nodes and values: they are stack traces with file names of the exporting machine."""
    graph = proto.graph
    del proto.metadata_props[:]
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
