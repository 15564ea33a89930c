"""The probe: a trial of about a second that chooses precision, memory format and replicas of a training."""

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

MAX_PROBE_PIXELS = 2**17  # of a probe batch: 128 images of 32 px; the probe then takes a second or two
MIN_PROBE_IMAGES = 4  # of a probe batch, even of large images: two images of 224 px are no batch that replicas could divide
TURNS = 4  # of each candidate; after one or two the slower format won too often, see docs/benchmarks/LOG.md, "Probe turns"
MAX_TURN_SECONDS = 1.0  # of all turns; slow steps get fewer of them, at least one, and vary less
CPUS_WITHOUT_BF16 = {"DEFAULT", "NO AVX", "AVX2"}  # torch's names of CPU capabilities; emulated bf16 is 12 times slower
HOPELESS_FACTOR = 3  # on the fastest first step: a candidate whose first step is slower gets no turn
MIN_SPEEDUP = 1.1  # over plain fp32, or over one replica: a smaller gain is not worth a change
MIN_REPLICA_IMAGES = 32  # per step; BatchNorm loses no accuracy down to 16 images and 1 % at 8 (arXiv:1803.08494, table 2)
MIN_INDEPENDENT_IMAGES = 4  # per replica and step where no layer takes statistics of the batch

# Called with the key of a probe and the probe itself; returns a stored result for the key, or runs the probe.
ProbeCache = Callable[[Hashable, Callable[[], Runtime]], Runtime]


def choose_runtime(  # noqa: PLR0913 (values flow, not namespaces)
    model: nn.Module,
    *,
    device: torch.device,
    precision: str,
    image_shape: tuple[int, int, int],
    batch_size: int,
    deterministic: bool,
    freeze_norm: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    cache: ProbeCache = lambda _, probe: probe(),
) -> Runtime:
    """Return the runtime for `precision`; auto probes candidates on copies of `model`.

    On a CUDA GPU, auto needs no probe: it is channels_last, in bf16 if that is native, else in fp32. On a CPU, the fastest
    precision and memory format competes with its own replicas, unless each replica would see fewer than
    `MIN_REPLICA_IMAGES` images, or `MIN_INDEPENDENT_IMAGES` with `freeze_norm`. `cache` may return an earlier result of the
    probe. Raises `ConfigError` for fp16 without a CUDA GPU.
    """
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError(f"--precision fp16 needs a CUDA GPU; on {device.type} use auto, bf16 or fp32")
    if deterministic and precision == "auto":
        return Runtime(device, "fp32", channels_last=False, reason="--deterministic")
    if precision != "auto":
        return Runtime(device, precision, channels_last=precision != "fp32", reason="--precision")
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        reason = "native on this GPU" if native else "no native bf16"
        return Runtime(device, "bf16" if native else "fp32", channels_last=True, reason=reason)

    def probe() -> Runtime:
        images = _probe_images(image_shape, batch_size)
        single = _fastest_runtime(model, device, images, clock)
        replicated = _with_replicas(single, model, images, batch_size // (MIN_INDEPENDENT_IMAGES if freeze_norm else MIN_REPLICA_IMAGES))
        if replicated is None:
            return single
        seconds, replicated_seconds = take_turns([_trial_step(model, runtime, images) for runtime in (single, replicated)], clock)
        return pick_replicas(single, seconds, replicated, replicated_seconds)

    return cache((*speed_key(model), device.type, image_shape, batch_size, freeze_norm), probe)


def speed_key(model: nn.Module) -> tuple[Hashable, ...]:
    """Return a key of the properties of `model` that determine its speed: its modules and the shapes of its parameters."""
    return str(model), tuple(tuple(value.shape) for value in model.parameters())


def take_turns(steps: Sequence[Callable[[], object]], clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Return the least seconds of each step over `TURNS` turns, after a first turn that allocates and compiles kernels.

    The steps take turns, so that other load of the machine falls on all of them. A step whose first turn takes
    `HOPELESS_FACTOR` times the least gets no other turn, and keeps that time. After `MAX_TURN_SECONDS` no turn begins.
    """

    def seconds(step: Callable[[], object]) -> float:
        start = clock()
        step()
        return clock() - start

    first = [seconds(step) for step in steps]
    hopeful = [index for index, took in enumerate(first) if took < HOPELESS_FACTOR * min(first)] or list(range(len(steps)))
    best = [float("inf") if index in hopeful else took for index, took in enumerate(first)]
    turns, spent = 0, 0.0
    while turns < TURNS and spent <= MAX_TURN_SECONDS:
        turn = {index: seconds(steps[index]) for index in hopeful}
        best = [min(least, turn.get(index, least)) for index, least in enumerate(best)]
        turns, spent = turns + 1, spent + sum(turn.values())
    return best


def _fastest_runtime(model: nn.Module, device: torch.device, images: Tensor, clock: Callable[[], float]) -> Runtime:
    """Return the fastest precision and memory format without replicas."""
    candidates = [Runtime(device), Runtime(device, channels_last=True)]
    if device.type != "cpu" or torch.backends.cpu.get_cpu_capability() not in CPUS_WITHOUT_BF16:
        candidates.append(Runtime(device, "bf16", channels_last=True))
    return pick_runtime(candidates, take_turns([_trial_step(model, candidate, images) for candidate in candidates], clock))


def pick_runtime(candidates: list[Runtime], seconds: list[float]) -> Runtime:
    """Return the fastest of `candidates` if it is `MIN_SPEEDUP` times faster than the first, plain fp32; else the first."""
    fastest = min(range(len(candidates)), key=seconds.__getitem__)
    ratio = seconds[0] / seconds[fastest]
    if ratio < MIN_SPEEDUP:
        return Runtime(candidates[0].device, reason="fastest in the probe")
    winner = candidates[fastest]
    return Runtime(winner.device, winner.precision, winner.channels_last, f"{ratio:.1f}x as fast as plain fp32 in the probe")


def pick_replicas(single: Runtime, seconds: float, replicated: Runtime, replicated_seconds: float) -> Runtime:
    """Return `replicated`, which is `single` with replicas, if it is `MIN_SPEEDUP` times faster; else `single`."""
    ratio = seconds / replicated_seconds
    if ratio < MIN_SPEEDUP:
        return single
    return replace(replicated, reason=f"{single.reason}; replicas {ratio:.1f}x as fast as one")


def check_compiler(device: torch.device) -> None:
    """Raise `ConfigError` unless torch.compile can work here: it needs a C++ compiler, and Triton on a GPU."""
    if device.type == "mps":
        raise ConfigError("--compile supports cpu and cuda, not mps; leave it out")
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise ConfigError("--compile needs Triton on a GPU; type: pip install triton; or leave it out")
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
    """Return the training speed of a copy of `model` in images per second, from the fastest of a few steps."""
    images = _probe_images(image_shape, batch_size)
    (seconds,) = take_turns([_trial_step(model, runtime, images)], clock)
    return len(images) / seconds


def _with_replicas(runtime: Runtime, model: nn.Module, images: Tensor, most: int) -> Runtime | None:
    """Return `runtime` with one replica per thread, `most` of them at most, tried on `images`; None for one replica."""
    cores = torch.get_num_threads()
    count = min(cores, most, len(images))
    if count < 2 or draws_by_itself(model, images[:2]):  # noqa: PLR2004
        return None
    return replace(runtime, replicas=count, threads=cores // count)


def _probe_images(shape: tuple[int, int, int], batch_size: int) -> Tensor:
    """Return random images for a probe; at least two, because BatchNorm cannot train on one."""
    count = max(MIN_PROBE_IMAGES, MAX_PROBE_PIXELS // (shape[1] * shape[2]))
    return torch.rand((max(2, min(batch_size, count)), *shape))


def _trial_step(model: nn.Module, runtime: Runtime, images: Tensor) -> Callable[[], object]:
    """Return a function that computes the gradients of a copy of `model` on `images`, as a training step does."""
    trial = runtime.prepare(copy.deepcopy(model)).train()
    images = runtime.to_memory_format(images.to(runtime.device))
    labels = torch.zeros(len(images), dtype=torch.int64, device=runtime.device)
    optimizer = eager(torch.optim.SGD)(trial.parameters())  # it makes no update, so any optimizer will do
    step = Step(trial, optimizer, OptimConfig(), runtime, None)
    return lambda: [float(loss) for loss, *_ in step.gradients([(images, labels)])]  # reading the loss waits for a GPU
