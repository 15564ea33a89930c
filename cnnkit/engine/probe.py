"""Choosing the arithmetic of a training by a probe of about a second, not by a fixed default."""

from __future__ import annotations

import copy
import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.eager import eager
from cnnkit.engine.replicas import draws_by_itself
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.step import Step
from cnnkit.errors import ConfigError

PROBE_PIXELS = 2**17  # pixels of a probe batch: 128 images of 32 px, 2 of 224 px; keeps the probe to a second or two
TURNS = 4  # of each candidate: one or two chose the slower format too often, see docs/benchmarks/LOG.md, "Probe turns"
WITHOUT_BF16 = {"DEFAULT", "NO AVX", "AVX2"}  # torch's names of what cannot have the arithmetic; emulated it is 12 times slower
HOPELESS = 3  # times the best: a first step this slow ends a candidate
GAIN = 1.1  # a candidate must be this much faster than plain fp32 to be worth leaving it
PART = 32  # images a replica must see at a time: BatchNorm loses nothing down to 16, then 1 % at 8 (arXiv:1803.08494, table 2)

Remember = Callable[[Hashable, Callable[[], Runtime]], Runtime]  # of what was probed, and the probe


def choose_runtime(  # noqa: PLR0913 (values flow, not namespaces)
    model: nn.Module,
    *,
    device: torch.device,
    precision: str,
    image_shape: tuple[int, int, int],
    batch_size: int,
    deterministic: bool,
    compiled: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    remember: Remember = lambda _, probe: probe(),
) -> Runtime:
    """Return the runtime for `precision`, probing candidates on copies of `model` if it is auto.

    On a GPU auto is bf16 in channels_last without a probe where bf16 is native. On a CPU the fastest precision and memory format
    is tried again with replicas, unless they would see fewer than `PART` images each. What is measured, `remember` may know from
    before. Raises `ConfigError` for fp16 without a GPU, and if `compiled` is asked for where there is no compiler.
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
    if compiled:  # which takes far longer than the probe
        return replace(_fastest(model, device, _probe_images(image_shape, batch_size), clock), compiled=True)

    def probe() -> Runtime:
        images = _probe_images(image_shape, batch_size)
        won = _fastest(model, device, images, clock)
        divided = _divided(won, model, images)
        if divided is None:
            return won
        whole, parts = take_turns([_step(model, won, images), _step(model, divided, images)], clock)
        return pick_divided(won, whole, divided, parts)

    return remember((*described(model), device.type, image_shape, batch_size), probe)


def described(model: nn.Module) -> tuple[Hashable, ...]:
    """Return what tells networks apart that are not equally fast."""
    return str(model), tuple(tuple(value.shape) for value in model.parameters())


def take_turns(steps: Sequence[Callable[[], object]], clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Return the least seconds of each step over `TURNS` turns, after a first one that allocates and compiles kernels.

    By turns, so that what else the machine does falls on all. A step whose first time is `HOPELESS` times the best is left out of
    them, and that time is its answer.
    """

    def seconds(step: Callable[[], object]) -> float:
        start = clock()
        step()
        return clock() - start

    first = [seconds(step) for step in steps]
    hopeful = [index for index, took in enumerate(first) if took < HOPELESS * min(first)] or list(range(len(steps)))
    best = [float("inf") if index in hopeful else took for index, took in enumerate(first)]
    for _ in range(TURNS):
        for index in hopeful:
            best[index] = min(best[index], seconds(steps[index]))
    return best


def _fastest(model: nn.Module, device: torch.device, images: Tensor, clock: Callable[[], float]) -> Runtime:
    """Return the fastest precision and memory format, for the whole batch at once."""
    candidates = [Runtime(device), Runtime(device, channels_last=True)]
    if device.type != "cpu" or torch.backends.cpu.get_cpu_capability() not in WITHOUT_BF16:
        candidates.append(Runtime(device, "bf16", channels_last=True))
    return pick(candidates, take_turns([_step(model, candidate, images) for candidate in candidates], clock))


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


def training_speed(
    model: nn.Module,
    runtime: Runtime,
    *,
    image_shape: tuple[int, int, int],
    batch_size: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return how many images a second a copy of `model` works out the gradients of: the least of a few steps' times, so the most."""
    images = _probe_images(image_shape, batch_size)
    (seconds,) = take_turns([_step(model, runtime, images)], clock)
    return len(images) / seconds


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


def _step(model: nn.Module, runtime: Runtime, images: Tensor) -> Callable[[], object]:
    """Return what works out the gradients of a copy of `model` on `images`, as a training does."""
    trial = runtime.prepare(copy.deepcopy(model)).train()
    images = runtime.laid_out(images.to(runtime.device))
    labels = torch.zeros(len(images), dtype=torch.int64, device=runtime.device)
    step = Step(
        trial, eager(torch.optim.SGD)(trial.parameters()), OptimConfig(), runtime, None
    )  # which makes no update: any optimizer will do
    return lambda: [float(loss) for loss, *_ in step.gradients([(images, labels)])]  # to know the loss, a GPU must have done all before
