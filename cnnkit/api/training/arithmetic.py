"""The third stage of preparing a training: device, precision and memory format, and the settings tier that the speed allows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from cnnkit.api.training.probe_cache import cached_probe, cached_speed
from cnnkit.config.settings import TrainConfig
from cnnkit.config.tiers import Tier, choose_tier
from cnnkit.engine.probe import choose_runtime
from cnnkit.engine.runtime import Runtime, choose_device


@dataclass(frozen=True)
class ProbeBatch:
    """The batch that a probe times: `size` images of `shape` (C, H, W). The result is cached in `folder`, that of the store."""

    shape: tuple[int, int, int]
    size: int
    folder: Path | None


def choose_arithmetic(config: TrainConfig, module: nn.Module, batch: ProbeBatch) -> Runtime:
    """Return the runtime that `config` asks for; with precision auto, a probe on copies of `module` chooses it.

    Raises `ConfigError` for a device or a precision that this machine does not support.
    """
    return choose_runtime(
        module,
        device=choose_device(config.run.device),
        precision=config.optim.precision,
        image_shape=batch.shape,
        batch_size=batch.size,
        deterministic=config.run.deterministic,
        compiled=config.optim.compile,
        freeze_norm=config.optim.freeze_norm,
        cache=cached_probe(batch.folder),
    )


def choose_larger(config: TrainConfig, module: nn.Module, runtime: Runtime, batch: ProbeBatch) -> tuple[Tier | None, str]:
    """Return the larger tier that the budget allows at the speed of `module`, None if none fits; with a note, empty without tiers."""
    if not config.larger:
        return None, ""
    speed = cached_speed(batch.folder, module, runtime, image_shape=batch.shape, batch_size=batch.size)
    return choose_tier(config.larger, config.optim.budget, speed, " ".join([config.model.arch, *config.model.set]))
