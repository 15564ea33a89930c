"""The exporter of ``.tflite`` files for cnnkit: litert-torch writes them, and ai-edge-litert runs them without torch.

A file takes one canvas and has the signature ``serving_default``. A zip follows the model in the file, as in TensorFlow Lite's own
metadata, so ``unzip model.tflite`` extracts ``cnnkit.json`` with classes, preprocessing and rules, and ``labels.txt``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnnkit import CnnkitError
from cnnkit.exporters.infer_script import RuntimeLines, infer_script
from cnnkit.exporters.protocol import CANVAS, FLOAT, LOGITS, PROBABILITIES, Exporter, ExportOptions
from cnnkit.exporters.session_classifier import SessionClassifier
from cnnkit.exporters.session_process import CPU_PROVIDER, Batch, Runtime

if TYPE_CHECKING:
    from torch import nn

    from cnnkit.model.file import Model

SIGNATURE = "serving_default"  # the name that TensorFlow gives a model's only signature
METADATA, LABELS = "cnnkit.json", "labels.txt"  # members of the zip behind the model
MAX_METADATA_BYTES = 2**26  # as much as the process of a session may send
MAX_THREADS = 4  # chosen: a phone has about as many fast cores
DTYPES = {np.dtype("uint8"): "tensor(uint8)", np.dtype("float32"): "tensor(float)"}  # as `Interface` names them
CONVERTER = "litert_torch"
HALF = "half"  # an argument of the conversion
COMMAND = "cnnkit export --to litert"
INSTALL = "pip install 'litert-torch>=0.10'"
STREAMS = (1, 2)  # stdout and stderr


class _Node(NamedTuple):
    """An input or output of a file."""

    name: str
    type: str
    shape: list[int | str]


class _Facts(NamedTuple):
    """The metadata of a file."""

    custom_metadata_map: Mapping[str, str]


class LitertSession:
    """An interpreter of the file `path` as a `cnnkit.exporters.session_process.Session`.

    The file takes one image, so a batch is run image by image.
    """

    def __init__(self, path: Path) -> None:
        if not path.stat().st_size:
            raise ValueError("it is empty")
        self._metadata = _read_metadata(path)
        with _silence():
            interpreter = import_module("ai_edge_litert.interpreter").Interpreter
            self._interpreter = interpreter(str(path), num_threads=min(MAX_THREADS, os.cpu_count() or 1))
            self._interpreter.allocate_tensors()
            known = self._interpreter.get_signature_list()
            self._runner: Any = self._interpreter.get_signature_runner(SIGNATURE) if SIGNATURE in known else None

    def get_inputs(self) -> Sequence[_Node]:
        """Return the inputs."""
        return self._nodes("get_input_details")

    def get_outputs(self) -> Sequence[_Node]:
        """Return the outputs."""
        return self._nodes("get_output_details")

    def get_providers(self) -> Sequence[str]:
        """Return the one provider, under the name that onnxruntime gives a CPU."""
        return (CPU_PROVIDER,)

    def get_modelmeta(self) -> _Facts:
        """Return the metadata; a file of another program is taken for one of canvases, which cnnkit then refuses."""
        return _Facts({"input": CANVAS, **self._metadata})

    def run(self, outputs: list[str], inputs: dict[str, Batch]) -> list[Any]:
        """Return the values of the named outputs for a batch of the one input."""
        [(name, images)] = inputs.items()
        found = [self._runner(**{name: image[None]}) for image in images]
        return [np.concatenate([one[output] for one in found]) for output in outputs]

    def _nodes(self, kind: str) -> list[_Node]:
        """Return the inputs or outputs of the signature, or those of a file without it, as the method `kind` describes them."""
        found: Any = getattr(self._runner or self._interpreter, kind)()
        described = found if isinstance(found, dict) else {one["name"]: one for one in found}
        return [
            _Node(name, DTYPES.get(np.dtype(one["dtype"]), np.dtype(one["dtype"]).name), _shape(one["shape_signature"]))
            for name, one in described.items()
        ]


def _shape(dimensions: Sequence[int]) -> list[int | str]:
    """Return the dimensions of a tensor, the first of which is the batch."""
    return ["N", *map(int, dimensions[1:])] if len(dimensions) else []


def _read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata in the zip behind the model; empty for a file that has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(METADATA).file_size > MAX_METADATA_BYTES:
                return {}
            found: Any = json.loads(archive.read(METADATA))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, NotImplementedError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


LITERT = Runtime("ai-edge-litert", "ai_edge_litert.interpreter", "a .tflite file", COMMAND, LitertSession)


class LitertClassifier(SessionClassifier):
    """A ``.tflite`` file that ``cnnkit export --to litert`` wrote, run by ai-edge-litert on the CPU."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, LITERT)


def write(model: Model, path: Path, options: ExportOptions) -> None:
    """Write `model` to `path` as one ``.tflite`` file.

    Raises `CnnkitError` if litert-torch is not installed or cannot convert the network, `ModelFileError` if the weights exceed 2 GiB.
    """
    import torch

    from cnnkit.exporters.onnx_graph import check_weights, metadata, quiet_torch

    if find_spec(CONVERTER) is None:
        raise CnnkitError(f"exporter 'litert': litert-torch writes .tflite files, and is not installed; type: {INSTALL}")
    check_weights(model, options, "LiteRT")
    spec = model.header.preprocessing
    size, channels = spec.image_size, spec.channels
    canvas = torch.zeros((1, size, size, channels), dtype=torch.uint8)
    sample = canvas if options.input == CANVAS else torch.zeros((1, channels, size, size))
    with TemporaryDirectory(dir=path.parent, prefix=".litert-") as folder:
        program = Path(folder) / "program.pt2"
        problem = ""
        try:
            with quiet_torch(), redirect_stderr(StringIO()):  # torch prints the graph of a network that it cannot trace
                torch.export.save(torch.export.export(_named(model, options), (), {options.input: sample}), program)
        except (RuntimeError, TypeError, ValueError) as error:  # of torch, for a forward that cannot be traced
            problem = _reason(error)
        if problem := problem or _convert_apart(program, path, half=options.half):
            raise CnnkitError(
                f"{model.path}: litert-torch {version('litert-torch')} cannot convert the architecture {model.header.arch!r} "
                f"({problem:.300}); type: cnnkit export --onnx"
            )
    with zipfile.ZipFile(path, "a") as archive:
        # A ZipInfo has a fixed date, so that the same model results in the same bytes.
        archive.writestr(zipfile.ZipInfo(METADATA), json.dumps(metadata(model.header, options), ensure_ascii=False))
        archive.writestr(zipfile.ZipInfo(LABELS), "".join(f"{' '.join(name.split())}\n" for name in model.header.classes))


def _convert_apart(program: Path, path: Path, *, half: bool) -> str:
    """Convert the exported `program` to the file `path` in a process of its own, and return the reason of a failure.

    litert-torch loads jax, which forbids later forks, and writes much to stdout and stderr.
    """
    command = [sys.executable, "-P", "-m", "cnnkit_litert", str(program), str(path), *([HALF] if half else [])]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603 (this module)
    if not done.returncode:
        return ""
    last = next((line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()), "no message")
    return last if done.returncode > 0 else f"its process ended by signal {-done.returncode}: {last}"


def convert(program: str, path: str, half: str = "") -> None:
    """Convert the exported `program` to the file `path`, as ``python -m cnnkit_litert PROGRAM FILE [half]`` asks."""
    import torch

    exported: Any = torch.export.load(program)
    _, sample = exported.example_inputs
    try:
        import_module(CONVERTER).convert(exported.module(), sample_kwargs=sample, enable_x64=True).export(path)
        if half:
            _store_weights_in_16_bits(path)
    except Exception as error:
        raise SystemExit(_reason(error)) from error


def _store_weights_in_16_bits(path: str) -> None:
    """Store the weights of the file `path` in 16 bits; the runtime computes in 32 bits on a CPU, and a GPU may compute in 16."""
    algorithms, types, quantizer = (import_module(f"ai_edge_quantizer.{name}") for name in ("algorithm_manager", "qtyping", "quantizer"))
    work = quantizer.Quantizer(path)
    weights = types.TensorQuantizationConfig(num_bits=16, dtype=types.TensorDataType.FLOAT)
    work.update_quantization_recipe(
        regex=".*",
        operation_name=types.TFLOperationName.ALL_SUPPORTED,
        op_config=types.OpQuantizationConfig(weight_tensor_config=weights, compute_precision=types.ComputePrecision.FLOAT),
        algorithm_key=algorithms.AlgorithmName.FLOAT_CASTING,
    )
    work.quantize().export_model(path, overwrite=True)


def _reason(error: Exception) -> str:
    """Return the type of an error and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _named(model: Model, options: ExportOptions) -> nn.Module:
    """Return the whole `model` in 32 bits as a module whose input and outputs have the names of the signature."""
    from torch import Tensor, nn

    from cnnkit.exporters.onnx_graph import EndToEnd

    class Named(nn.Module):
        """A module of one named image."""

        def __init__(self) -> None:
            super().__init__()
            self.whole = EndToEnd(model, replace(options, half=False))

        def forward(self, **images: Tensor) -> dict[str, Tensor]:
            """Classify the image."""
            scores, labels = self.whole(images[options.input])
            return {options.output: scores, "labels": labels}

    return Named().eval()


@contextmanager
def _silence() -> Generator[None]:
    """Keep the messages of LiteRT from the screen, those of C++ too; errors are raised as ever."""
    with Path(os.devnull).open("w", encoding="utf-8") as nothing, ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number in _open_streams():
            kept = os.dup(number)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, number)
            os.dup2(nothing.fileno(), number)
        yield


def _open_streams() -> Iterator[int]:
    """Yield the numbers of the standard streams that are open."""
    for number in STREAMS:
        try:
            os.fstat(number)
        except OSError:
            continue
        yield number


_SCRIPT = RuntimeLines(
    "ai_edge_litert.interpreter",
    f'run = ai_edge_litert.interpreter.Interpreter(str(FOLDER / MODEL["file"])).get_signature_runner("{SIGNATURE}")',
    'run({input}={batch})["{output}"]',
)

litert = Exporter(
    name="litert",
    summary="one .tflite file for phones and small devices: one canvas in, probabilities out",
    write=write,
    open=LitertClassifier,
    suffix=".tflite",
    inputs=(CANVAS, FLOAT),
    outputs=(PROBABILITIES, LOGITS),
    half=True,
    batch=1,
    script=partial(infer_script, runtime=_SCRIPT),
)

if __name__ == "__main__":
    convert(*sys.argv[1:])
