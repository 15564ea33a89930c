"""The graph of an ONNX file, which maps images to probabilities or logits.

The input is, by its kind, `images` uint8 (N, H, W, 3) RGB with dynamic N, H and W, `canvas` uint8 (N, S, S, C), or `float` float32
(N, C, S, S). The outputs are `probabilities` or `logits`, float32 (N, K), and `labels` int64 (N,). The remaining preprocessing, the
temperature and softmax are part of the graph; `logits` are those before the temperature.

The metadata hold the kinds as `input` and `output`, `classes`, a JSON list in index order, and the rules of the model. These are
`temperature` and `calibration` (how it was fitted), `label_sets`, `fingerprint` and `abstention`, with the `threshold` below which the
model abstains.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cnnkit.errors import ModelFileError
from cnnkit.exporters.onnx_facts import OPSETS
from cnnkit.exporters.protocol import CANVAS, FLOAT, IMAGES, LOGITS, ExportOptions
from cnnkit.model.file import Model, ModelHeader
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.rules import to_metadata

if TYPE_CHECKING:
    import onnx

DEFAULT_OPTIONS = ExportOptions(opset=OPSETS[0])
MAX_WEIGHT_BYTES = 2**31 - 2**20  # a protobuf message and a flatbuffer hold 2 GiB, of which 1 MiB is for the graph


class EndToEnd(nn.Module):
    """The whole `model` as one module, from the input to the output that `options` name, and labels (N,) int64.

    With `half`, the network computes in 16 bits, and the rest in float32: the resize needs whole numbers up to 2^24.
    """

    def __init__(self, model: Model, options: ExportOptions) -> None:
        super().__init__()
        self.preprocess = Preprocess(model.header.preprocessing)
        self.dtype = torch.float16 if options.half else torch.float32
        self.network = copy.deepcopy(model.module).to("cpu", self.dtype)
        self.temperature = model.header.temperature
        self.options = options

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Classify a batch of the kind `options.input`."""
        if self.options.input == IMAGES:
            images = self.preprocess(images)
        elif self.options.input == CANVAS:
            images = self.preprocess.normalise(images.permute(0, 3, 1, 2))
        logits = self.network(images.to(self.dtype)).float()
        result = logits if self.options.output == LOGITS else (logits / self.temperature).softmax(1)
        return result, result.argmax(1)


def write_onnx(model: Model, path: Path, options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write `model` to `path` as one ONNX file; the same model and options result in the same bytes.

    Raises `ModelFileError` if the weights exceed the 2 GiB of one file.
    """
    check_weights(model, options, "ONNX")
    import onnx

    with quiet_torch():
        proto = _translate(EndToEnd(model, options).eval(), model.header, options)
    _remove_notes(proto)
    onnx.helper.set_model_props(proto, metadata(model.header, options))
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def check_weights(model: Model, options: ExportOptions, format_name: str) -> None:
    """Raise `ModelFileError` if the weights of `model` exceed the 2 GiB of one file of the format."""
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.module.state_dict().values())
    if weights / (2 if options.half else 1) > MAX_WEIGHT_BYTES:
        raise ModelFileError(f"{model.path}: its weights take {weights / 2**30:.1f} GiB; one {format_name} file holds at most 2 GiB")


def metadata(header: ModelHeader, options: ExportOptions = DEFAULT_OPTIONS) -> dict[str, str]:
    """Return the metadata of the ONNX file; values that are not text are JSON."""
    return {
        "input": options.input,
        "output": options.output,
        "half": json.dumps(options.half),
        "int8": json.dumps(options.int8),
        "classes": json.dumps(header.classes, ensure_ascii=False),
        "preprocessing": header.preprocessing.model_dump_json(),
        "arch": header.arch,
        "options": json.dumps(header.options),
        "training": json.dumps(header.training),
        "cnnkit_version": version("cnnkit"),
        **to_metadata(header),
    }


def _translate(module: nn.Module, header: ModelHeader, options: ExportOptions) -> onnx.ModelProto:
    """Trace `module` and translate the trace, with named dynamic dimensions."""
    spec, dimension = header.preprocessing, torch.export.Dim
    # Two images, of different odd height and width: torch.export would treat a 1 or equal dimensions as constants.
    samples = {
        IMAGES: torch.zeros((2, 37, 41, 3), dtype=torch.uint8),
        CANVAS: torch.zeros((2, spec.image_size, spec.image_size, spec.channels), dtype=torch.uint8),
        FLOAT: torch.zeros((2, spec.channels, spec.image_size, spec.image_size)),
    }
    names = ("N", "H", "W") if options.input == IMAGES else ("N",)
    program = torch.onnx.export(
        module,
        (samples[options.input],),
        dynamo=True,
        opset_version=options.opset,
        input_names=[options.input],
        output_names=[options.output, "labels"],
        dynamic_shapes={"images": {axis: dimension(name) for axis, name in enumerate(names)}},
        verbose=False,
    )
    if program is None:  # only the old, script-based exporter returns nothing
        raise TypeError("torch.onnx.export returned no program")
    return program.model_proto


@contextmanager
def quiet_torch() -> Generator[None]:
    """Keep the warnings of torch and onnxscript from the screen: they are about their own code, and parity is measured afterwards."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _remove_notes(proto: onnx.ModelProto) -> None:
    """Remove torch's notes on nodes and values: they are stack traces with file names of the exporting machine."""
    graph = proto.graph
    del proto.metadata_props[:]
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
