"""An ONNX file in 8-bit integers: static quantisation by onnxruntime on the canvas graph, and its cost beside the file in 32 bits."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnkit.errors import ModelFileError
from cnnkit.exporters.onnx_facts import OPSETS
from cnnkit.exporters.protocol import CANVAS, LOGITS, PROBABILITIES, ExportOptions

if TYPE_CHECKING:
    import onnx

    from cnnkit.model.file import Model
    from cnnkit.model.header import ModelHeader

CALIBRATION_BATCH = 8  # canvases in one run of the calibration
# Sums and products of the network. Others, such as softmax, stay in 32 bits, and so does the arithmetic of the input.
QUANTISED_OPERATORS = ("Conv", "Gemm", "MatMul", "Add", "Mul", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat")
# With 8 bits, processors without VNNI instructions overflow in sums of two products, and predict something else without an error.
SAFE_WEIGHT_BITS, FULL_WEIGHT_BITS = 7, 8
REPEATS = 5  # of a timing, of which the least counts
MIN_TIMED_SECONDS = 0.2  # of one of them


def write_int8(
    model: Model, path: Path, batches: Iterable[NDArray[np.uint8]], options: ExportOptions, *, weight_bits: int = SAFE_WEIGHT_BITS
) -> None:
    """Write `model` to `path` with weights and activations in 8 bits, with the output logits, and the ranges of `batches` (n, S, S, C).

    Weights have a scale for each channel, and use `weight_bits` of their 8 bits.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from cnnkit.exporters.onnx_graph import quiet_torch, write_onnx

    with TemporaryDirectory(dir=path.parent, prefix=".int8-") as folder:
        plain, prepared, quantised = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "quantised"))
        write_onnx(model, plain, ExportOptions(CANVAS, LOGITS, opset=options.opset or OPSETS[0]))
        with quiet_torch():
            quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(quantised),
                cast("Any", _Reader(iter(batches))),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED_OPERATORS),
                per_channel=True,
                reduce_range=weight_bits < FULL_WEIGHT_BITS,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        proto = onnx.load(quantised)
    _keep_scores(proto)
    header = model.header.model_copy(update={"temperature": 1.0})
    _finish(proto, path, header, ExportOptions(CANVAS, LOGITS, opset=options.opset, int8=True))


def _keep_scores(proto: onnx.ModelProto) -> None:
    """Take the logits of `proto` before their quantisation: 256 levels would give two classes one probability."""
    nodes = {name: node for node in proto.graph.node for name in node.output}
    last = nodes.get(LOGITS)
    if last is None or last.op_type != "DequantizeLinear" or nodes[last.input[0]].op_type != "QuantizeLinear":
        return
    levels = nodes[last.input[0]]
    scores = levels.input[0]
    for node in (last, levels):
        proto.graph.node.remove(node)
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name in {scores, *levels.output}:
                    names[index] = LOGITS
    used = {name for node in proto.graph.node for name in node.input}
    for tensor in [tensor for tensor in proto.graph.initializer if tensor.name not in used]:
        proto.graph.initializer.remove(tensor)


def add_rules(path: Path, target: Path, header: ModelHeader, options: ExportOptions) -> None:
    """Write the file `path`, whose output is logits, to `target` with the output and the rules of `header`."""
    import onnx
    from onnx import TensorProto, helper

    proto = onnx.load(path)
    graph = proto.graph
    if options.output == PROBABILITIES:
        temperature = helper.make_tensor("cnnkit_temperature", TensorProto.FLOAT, [], [header.temperature])
        graph.initializer.append(temperature)
        graph.node.append(helper.make_node("Div", [LOGITS, temperature.name], ["cnnkit_scaled"], name="cnnkit_div"))
        graph.node.append(helper.make_node("Softmax", ["cnnkit_scaled"], [PROBABILITIES], name="cnnkit_softmax", axis=1))
        graph.output[0].name = PROBABILITIES
    _finish(proto, target, header, options)


def _finish(proto: onnx.ModelProto, path: Path, header: ModelHeader, options: ExportOptions) -> None:
    """Replace the metadata of `proto`, check it, and write it to `path` with the same bytes for the same content.

    Raises `ModelFileError` if onnx refuses the file, as it does with those of old versions of onnxruntime.
    """
    import onnx

    from cnnkit.exporters.onnx_graph import metadata

    used = {node.domain for node in proto.graph.node}
    for entry in [entry for entry in proto.opset_import if entry.domain not in used]:
        proto.opset_import.remove(entry)  # onnxruntime names all operators that it knows
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, metadata(header, options))
    try:
        onnx.checker.check_model(proto, full_check=True)
    except onnx.checker.ValidationError as error:  # seen with onnxruntime 1.20 and onnx 1.17
        reason = (str(error).strip().splitlines() or ["no reason"])[0]
        raise ModelFileError(
            f"--int8: onnxruntime {version('onnxruntime')} writes a file that onnx refuses ({reason}); "
            "type: pip install --upgrade onnxruntime onnx"
        ) from error
    path.write_bytes(proto.SerializeToString(deterministic=True))


class _Reader:
    """The batches of a calibration, as onnxruntime asks for them."""

    def __init__(self, batches: Iterator[NDArray[np.uint8]]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next batch by the name of the input; None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {CANVAS: batch}


def cpu_milliseconds(files: Sequence[Path], canvases: NDArray[np.uint8]) -> list[float]:
    """Return the CPU time for one image of each of `files`, whose input is `canvases` (N, S, S, C); the files take turns."""
    sessions = [_session(file) for file in files]
    least = [float("inf")] * len(files)
    for _ in range(REPEATS):
        for index, session in enumerate(sessions):
            began, runs, spent = time.process_time(), 0, 0.0
            while spent < MIN_TIMED_SECONDS:
                session.run(None, {CANVAS: canvases})
                runs, spent = runs + 1, time.process_time() - began
            least[index] = min(least[index], 1000 * spent / (runs * len(canvases)))
    return least


def _session(path: Path) -> Any:
    """Open a file that this process wrote, with one thread, so that its CPU time is its own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
