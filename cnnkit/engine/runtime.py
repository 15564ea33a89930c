"""Where and in which arithmetic the network runs; chosen by a short probe, not by a fixed default."""

from __future__ import annotations

import copy
import ctypes
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cnnkit.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

PROBE_PIXELS = 2**18  # pixels of a probe batch: 256 images of 32 px, 5 of 224 px; keeps the probe near a second
PROBE_SECONDS = 0.25  # for each candidate, after one warm-up step
HOPELESS = 3  # times the best so far: a first step this slow ends a candidate (measured: bf16 on a CPU without it, 12 times)
GAIN = 1.1  # a candidate must be this much faster than plain fp32 to be worth leaving it
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """A device, a precision of the training arithmetic (fp32, bf16, fp16) and a memory format; `reason` says why."""

    device: torch.device
    precision: str = "fp32"
    channels_last: bool = False
    reason: str = ""

    def prepare(self, model: nn.Module) -> nn.Module:
        """Move `model` to the device and into the memory format; returns the same module."""
        model.to(self.device)
        return model.to(memory_format=torch.channels_last) if self.channels_last else model

    def laid_out(self, images: Tensor) -> Tensor:
        """Return `images` (N, C, H, W) in the memory format."""
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which the forward pass of a training step runs."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=_DTYPES[self.precision])

    def describe(self) -> str:
        """Say in a few words what was chosen."""
        layout = ", channels last" if self.channels_last else ""
        return f"{self.device.type}, {self.precision}{layout}{f' ({self.reason})' if self.reason else ''}"


def keep_freed_memory() -> None:
    """Make glibc keep the memory that one step frees for the next, instead of giving it back to the system.

    Every step allocates the same activations; fetched anew as zeroed pages they cost a fifth to a third of the CPU time
    (measured: fine-tuning tf_efficientnet_lite0 at 224 px, 4 epochs of 245 images: 160 CPU-s with, 114 without). Elsewhere than
    on glibc this does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def choose_device(name: str) -> torch.device:
    """Return the device `name` (auto: cuda, then mps, then cpu); raises `ConfigError` if it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, usable in there.items() if usable))
    if not there[name]:
        usable = ", ".join(device for device, present in there.items() if present)
        raise ConfigError(f"--device {name}: there is none that torch {torch.__version__} can use; here: {usable}")
    return torch.device(name)


def choose_runtime(
    model: nn.Module,
    *,
    device: torch.device,
    precision: str,
    image_shape: tuple[int, int, int],
    batch_size: int,
    deterministic: bool,
    clock: Callable[[], float] = time.perf_counter,
) -> Runtime:
    """Return the runtime for `precision`, probing candidates on copies of `model` if it is auto.

    On a GPU auto is bf16 in channels_last without a probe where bf16 is native. Raises `ConfigError` for fp16 without one.
    """
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError(f"--precision fp16 needs a CUDA GPU; on {device.type} use auto, bf16 or fp32")
    if deterministic and precision == "auto":
        return Runtime(device, "fp32", channels_last=False, reason="--deterministic")
    if precision != "auto":
        return Runtime(device, precision, channels_last=precision != "fp32", reason="--precision")
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return Runtime(
            device, "bf16" if native else "fp32", channels_last=True, reason="native on this GPU" if native else "no native bf16"
        )
    candidates = [Runtime(device), Runtime(device, channels_last=True), Runtime(device, "bf16", channels_last=True)]
    seconds: list[float] = []
    for candidate in candidates:
        give_up = HOPELESS * min(seconds, default=float("inf"))
        seconds.append(_seconds_per_step(model, candidate, image_shape, batch_size, clock, give_up))
    return pick(candidates, seconds)


def pick(candidates: list[Runtime], seconds: list[float]) -> Runtime:
    """Return the fastest of `candidates`, the first (plain fp32) unless another is `GAIN` times faster."""
    fastest = min(range(len(candidates)), key=seconds.__getitem__)
    ratio = seconds[0] / seconds[fastest]
    if ratio < GAIN:
        return Runtime(candidates[0].device, reason="fastest in the probe")
    won = candidates[fastest]
    return Runtime(won.device, won.precision, won.channels_last, f"{ratio:.1f}x as fast as plain fp32 in the probe")


def _seconds_per_step(
    model: nn.Module,
    runtime: Runtime,
    image_shape: tuple[int, int, int],
    batch_size: int,
    clock: Callable[[], float],
    give_up: float = float("inf"),
) -> float:
    """Seconds of one forward and backward pass on random images, the least of as many as fit into `PROBE_SECONDS`.

    A warm-up that takes `give_up` seconds or more is the answer already.
    """
    trial = runtime.prepare(copy.deepcopy(model)).train()
    count = max(2, min(batch_size, PROBE_PIXELS // (image_shape[1] * image_shape[2])))
    images = torch.rand((count, *image_shape), device=runtime.device)
    best, spent = float("inf"), 0.0
    for attempt in range(20):
        start = clock()
        with runtime.autocast():
            logits = trial(images)
        functional.cross_entropy(logits.float(), logits.argmax(1)).backward()
        took = clock() - start
        if not attempt and took >= give_up:
            return took
        if attempt:  # the first one allocates and compiles kernels
            best, spent = min(best, took), spent + took
        if spent > PROBE_SECONDS:
            break
    return best
