"""Choosing the arithmetic of a training by a probe of about a second, not by a fixed default."""

from __future__ import annotations

import copy
import importlib.util
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnkit.engine.replicas import Replicas, draws_by_itself
from cnnkit.engine.runtime import Runtime
from cnnkit.errors import ConfigError

PROBE_PIXELS = 2**18  # pixels of a probe batch: 256 images of 32 px, 5 of 224 px; keeps the probe near a second
PROBE_SECONDS = 0.25  # for each candidate, after one warm-up step
HOPELESS = 3  # times the best so far: a first step this slow ends a candidate (measured: bf16 on a CPU without it, 12 times)
GAIN = 1.1  # a candidate must be this much faster than plain fp32 to be worth leaving it
PART = 32  # images a replica must see at a time: BatchNorm loses nothing down to 16, then 1 % at 8 (arXiv:1803.08494, table 2)


def choose_runtime(
    model: nn.Module,
    *,
    device: torch.device,
    precision: str,
    image_shape: tuple[int, int, int],
    batch_size: int,
    deterministic: bool,
    compiled: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> Runtime:
    """Return the runtime for `precision`, probing candidates on copies of `model` if it is auto.

    On a GPU auto is bf16 in channels_last without a probe where bf16 is native. On a CPU the fastest precision and memory format
    is tried again with replicas, unless they would see fewer than `PART` images each. Raises `ConfigError` for fp16 without a GPU,
    and if `compiled` is asked for where there is no compiler.
    """
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError(f"--precision fp16 needs a CUDA GPU; on {device.type} use auto, bf16 or fp32")
    if compiled:
        check_compiler(device)
    if deterministic and precision == "auto":
        return Runtime(device, "fp32", channels_last=False, reason="--deterministic", compiled=compiled)
    if precision != "auto":
        return Runtime(device, precision, channels_last=precision != "fp32", reason="--precision", compiled=compiled)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        reason = "native on this GPU" if native else "no native bf16"
        return Runtime(device, "bf16" if native else "fp32", channels_last=True, reason=reason, compiled=compiled)
    candidates = [Runtime(device), Runtime(device, channels_last=True), Runtime(device, "bf16", channels_last=True)]
    images = _probe_images(image_shape, batch_size)
    seconds: list[float] = []
    for candidate in candidates:
        give_up = HOPELESS * min(seconds, default=float("inf"))
        seconds.append(_seconds_per_step(model, candidate, images, clock, give_up))
    won = pick(candidates, seconds)
    if compiled:
        return replace(won, compiled=True)
    divided = _divided(won, model, images)
    return won if divided is None else pick_divided(won, min(seconds), divided, _seconds_per_step(model, divided, images, clock))


def pick(candidates: list[Runtime], seconds: list[float]) -> Runtime:
    """Return the fastest of `candidates`, the first (plain fp32) unless another is `GAIN` times faster."""
    fastest = min(range(len(candidates)), key=seconds.__getitem__)
    ratio = seconds[0] / seconds[fastest]
    if ratio < GAIN:
        return Runtime(candidates[0].device, reason="fastest in the probe")
    won = candidates[fastest]
    return Runtime(won.device, won.precision, won.channels_last, f"{ratio:.1f}x as fast as plain fp32 in the probe")


def pick_divided(whole: Runtime, seconds: float, divided: Runtime, divided_seconds: float) -> Runtime:
    """Return `divided`, `whole` with replicas, if it is `GAIN` times faster, else `whole`."""
    ratio = seconds / divided_seconds
    if ratio < GAIN:
        return whole
    return replace(divided, reason=f"{whole.reason}; replicas {ratio:.1f}x as fast as one")


def check_compiler(device: torch.device) -> None:
    """Raise `ConfigError` unless torch.compile finds what it needs: a C++ compiler, and Triton on a GPU."""
    if device.type == "mps":
        raise ConfigError("--compile is for cpu and cuda; leave it out on mps")
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise ConfigError("--compile needs Triton on a GPU: pip install triton; or leave it out")
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl") if name):
        raise ConfigError("--compile needs a C++ compiler, and none of c++, g++, clang++ is on the PATH; install one, or leave it out")


def _divided(runtime: Runtime, model: nn.Module, images: Tensor) -> Runtime | None:
    """Return `runtime` with as many replicas as there are threads and as find `PART` of the `images` each; None if that is one."""
    cores = torch.get_num_threads()
    count = min(cores, len(images) // PART)
    if count < 2 or draws_by_itself(model, images[:2]):  # noqa: PLR2004
        return None
    return replace(runtime, replicas=count, threads=cores // count)


def _probe_images(shape: tuple[int, int, int], batch_size: int) -> Tensor:
    """Random images to probe with; at least two, for BatchNorm cannot train on one."""
    return torch.rand((max(2, min(batch_size, PROBE_PIXELS // (shape[1] * shape[2]))), *shape))


def _seconds_per_step(
    model: nn.Module, runtime: Runtime, images: Tensor, clock: Callable[[], float], give_up: float = float("inf")
) -> float:
    """Seconds of one forward and backward pass on `images`, the least of as many as fit into `PROBE_SECONDS`.

    A warm-up that takes `give_up` seconds or more is the answer already.
    """
    trial = runtime.prepare(copy.deepcopy(model)).train()
    images = runtime.laid_out(images.to(runtime.device))
    classes = torch.zeros(len(images), dtype=torch.int64, device=runtime.device)
    replicas = Replicas(trial, runtime.replicas, runtime.threads) if runtime.replicas > 1 else None

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with runtime.autocast():
            logits = network(images)
        return functional.cross_entropy(logits.float(), labels), logits

    best, spent = float("inf"), 0.0
    for attempt in range(20):
        start = clock()
        if replicas is None:
            loss(trial, images, classes)[0].backward()
        else:
            replicas.gradients(images, classes, loss)
        took = clock() - start
        if not attempt and took >= give_up:
            return took
        if attempt:  # the first one allocates and compiles kernels
            best, spent = min(best, took), spent + took
        if spent > PROBE_SECONDS:
            break
    return best
