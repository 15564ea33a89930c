"""The runtime of a network: device, precision, memory format, replicas and compilation."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, fields, replace
from threading import Thread
from typing import TYPE_CHECKING, Any

import torch

from cnnkit.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """A device, the precision of training (fp32, bf16 or fp16) and a memory format; `reason` explains the choice.

    On a CPU, a batch may be divided among `replicas` of the network with `threads` threads each. `compiled` says whether
    torch.compile compiles the network.
    """

    device: torch.device
    precision: str = "fp32"
    channels_last: bool = False
    reason: str = ""
    replicas: int = 1
    threads: int = 1
    compiled: bool = False

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], reason: str) -> Runtime:
        """Return the runtime that `facts()` describes."""
        known: dict[str, Any] = {**facts, "device": torch.device(facts["device"]), "reason": reason}
        return cls(**known)

    def facts(self) -> dict[str, Any]:
        """Return the fields for config.json: all but the reason."""
        kept = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "reason"}
        return {**kept, "device": self.device.type}

    def prepare(self, model: nn.Module) -> nn.Module:
        """Move `model` to the device and into the memory format; return the same module."""
        model.to(self.device)
        return model.to(memory_format=torch.channels_last) if self.channels_last else model

    def with_compilation(self) -> Runtime:
        """Return the runtime that compiles the network, of which it then has one replica."""
        return replace(self, compiled=True, replicas=1, threads=1)

    def with_reason(self, added: str) -> Runtime:
        """Return the runtime with one more reason."""
        return replace(self, reason=f"{self.reason}; {added}" if self.reason else added)

    def to_memory_format(self, images: Tensor) -> Tensor:
        """Return `images` (N, C, H, W) in the memory format."""
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context for the forward pass of a training step."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=_DTYPES[self.precision])

    def describe(self) -> str:
        """Return the runtime in a few words, such as ``cpu, bf16, channels last (--precision)``."""
        layout = ", channels last" if self.channels_last else ""
        divided = f", {self.replicas} replicas" if self.replicas > 1 else ""
        compiled = ", compiled" if self.compiled else ""
        return f"{self.device.type}, {self.precision}{layout}{divided}{compiled}{f' ({self.reason})' if self.reason else ''}"


def keep_freed_memory() -> None:
    """Make glibc keep the memory that one step frees for the next step, instead of returning it to the system.

    Every step allocates the same activations. As new zeroed pages they would cost a fifth to a third of the CPU time: see
    docs/benchmarks/LOG.md, "Freed memory kept by glibc". Without glibc this function does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def usable_devices() -> dict[str, bool]:
    """Return the known devices, the fastest first, each with True if torch can use it here."""
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}


def start_gpu(device: torch.device) -> Thread | None:
    """Let a thread start a CUDA GPU, which takes seconds, while the caller reads images; None for another device.

    An error of the GPU is left to the caller, who meets it at the first tensor.
    """
    if device.type != "cuda":
        return None

    def start() -> None:
        with suppress(RuntimeError):
            torch.zeros(1, device=device)

    thread = Thread(target=start, daemon=True)
    thread.start()
    return thread


def choose_device(name: str) -> torch.device:
    """Return the device `name`; auto is the first usable one of cuda, mps and cpu.

    Raises `ConfigError` if `name` is unknown or torch cannot use the device.
    """
    usable = usable_devices()
    if name not in {"auto", *usable}:
        raise ConfigError(f"--device {name}: unknown; expected auto, {', '.join(usable)}")
    if name == "auto":
        return torch.device(next(device for device, is_usable in usable.items() if is_usable))
    if not usable[name]:
        known = ", ".join(device for device, is_usable in usable.items() if is_usable)
        raise ConfigError(f"--device {name}: torch {torch.__version__} finds no such device here; usable: {known}")
    return torch.device(name)
