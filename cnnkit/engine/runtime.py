"""Where and in which arithmetic the network runs."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

import torch

from cnnkit.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """A device, a precision of the training arithmetic (fp32, bf16, fp16) and a memory format; `reason` says why.

    On a CPU, batches may be divided among `replicas` of the network with `threads` threads each. `compiled`: by torch.compile.
    """

    device: torch.device
    precision: str = "fp32"
    channels_last: bool = False
    reason: str = ""
    replicas: int = 1
    threads: int = 1
    compiled: bool = False

    @classmethod
    def recorded(cls, facts: Mapping[str, Any], reason: str) -> Runtime:
        """Return the runtime that `facts` came from."""
        known: dict[str, Any] = {**facts, "device": torch.device(facts["device"]), "reason": reason}
        return cls(**known)

    def facts(self) -> dict[str, Any]:
        """Return what config.json keeps: all but the reason."""
        kept = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "reason"}
        return {**kept, "device": self.device.type}

    def prepare(self, model: nn.Module) -> nn.Module:
        """Move `model` to the device and into the memory format; returns the same module."""
        model.to(self.device)
        return model.to(memory_format=torch.channels_last) if self.channels_last else model

    def compile(self, model: nn.Module) -> nn.Module:
        """Return what to call in place of `model`: itself, or what torch.compile makes of it, with the same parameters."""
        return cast("nn.Module", torch.compile(model)) if self.compiled else model

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
        divided = f", {self.replicas} replicas" if self.replicas > 1 else ""
        compiled = ", compiled" if self.compiled else ""
        return f"{self.device.type}, {self.precision}{layout}{divided}{compiled}{f' ({self.reason})' if self.reason else ''}"


def keep_freed_memory() -> None:
    """Make glibc keep the memory that one step frees for the next, instead of giving it back to the system.

    Every step allocates the same activations; fetched anew as zeroed pages they cost a fifth to a third of the CPU time: see
    docs/benchmarks/LOG.md, "Freed memory kept by glibc". Elsewhere than on glibc this does nothing.
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
