"""The exporter of ONNX files; only its writing loads torch, and onnxruntime runs them."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cnnkit.errors import ConfigError
from cnnkit.exporters.infer_script import infer_script
from cnnkit.exporters.onnx_facts import OPSETS
from cnnkit.exporters.protocol import CANVAS, FLOAT, IMAGES, LOGITS, PROBABILITIES, Exporter, ExportOptions
from cnnkit.exporters.session_classifier import SessionClassifier
from cnnkit.exporters.session_process import CPU_PROVIDER, Runtime

if TYPE_CHECKING:
    import onnxruntime

    from cnnkit.model.file import Model

CUDA_PROVIDER = "CUDAExecutionProvider"  # of the package onnxruntime-gpu
ERROR_SEVERITY = 3  # of onnxruntime's log: its warnings are about the graph and do not help a user


class OnnxClassifier(SessionClassifier):
    """An ONNX file that ``cnnkit export --onnx`` wrote, run by onnxruntime on `device`: cpu, cuda, or auto.

    auto is a GPU if onnxruntime can use one, else the CPU. `note` is a sentence on the provider if a GPU was tried.

    Raises the errors of `SessionClassifier`, and `ConfigError` for a device that onnxruntime cannot use.
    """

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        super().__init__(path, onnxruntime_on(gpu=_takes_gpu(device)))
        self.note = _provider_note(self.path, device, self.provider) if self.runtime.on_gpu else ""


def onnxruntime_on(*, gpu: bool) -> Runtime:
    """Return onnxruntime as a runtime, which tries a `gpu` before the CPU."""
    return Runtime("onnxruntime", "onnxruntime", "an ONNX file", "cnnkit export --onnx", partial(_make_session, on_gpu=gpu), gpu)


def _takes_gpu(device: str) -> bool:
    """Return whether a session for `device` tries the GPU; raises `ConfigError` for cuda if onnxruntime has no part for it."""
    if device == "cpu":
        return False
    import onnxruntime

    if CUDA_PROVIDER in onnxruntime.get_available_providers():
        return True
    if device == "cuda":
        raise ConfigError(
            f"--device cuda: onnxruntime {onnxruntime.__version__} here has no {CUDA_PROVIDER}; "
            "type: pip install --force-reinstall --no-deps onnxruntime-gpu; or leave out --device"
        )
    return False


def _provider_note(path: Path, device: str, provider: str) -> str:
    """Return a sentence on the provider of a session that tried the GPU; raises `ConfigError` if the GPU was asked for and not taken."""
    if provider == CUDA_PROVIDER:
        return f"{path} runs on the GPU, by the {CUDA_PROVIDER} of onnxruntime"
    failed = f"the {CUDA_PROVIDER} of onnxruntime cannot start: it needs a GPU, and CUDA and cuDNN of its version"
    if device == "cuda":
        raise ConfigError(f"--device cuda: {failed}; leave out --device to run {path} on the CPU")
    return f"{path} runs on the CPU, because {failed}"


def _make_session(path: Path, *, on_gpu: bool = False) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERROR_SEVERITY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the cores to the decoding
    gpu = [(CUDA_PROVIDER, {"use_tf32": "0"})] if on_gpu else []  # true fp32, as a network of torch
    with redirect_stdout(sys.stderr):  # onnxruntime prints there if the GPU fails
        return onnxruntime.InferenceSession(path, options, providers=[*gpu, CPU_PROVIDER])


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
