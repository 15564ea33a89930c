"""The third stage of preparing a training: device, precision, memory format and settings tier, and the cache of its probes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnkit.config.settings import START_SHARE, OptimConfig, TrainConfig
from cnnkit.config.tiers import Tier, choose_tier
from cnnkit.data.batches import Batches
from cnnkit.data.store.cached_results import cached_result
from cnnkit.engine.compiled import CompileTimes, Work, decide, time_compilation
from cnnkit.engine.probe import ProbeCache, check_compiler, choose_runtime, speed_key, training_speed
from cnnkit.engine.runtime import Runtime, choose_device
from cnnkit.speed.stopwatch import MAX_BUSY_SHARE, Meter, OtherPrograms

Measure = Callable[..., float]  # `training_speed`
PROBE_VERSION = 2  # raise it if the probe changes, so that cached results are measured again


@dataclass(frozen=True)
class ProbeBatch:
    """The batch that a probe times: `size` images of `shape` (C, H, W). The result is cached in `folder`, that of the store."""

    shape: tuple[int, int, int]
    size: int
    folder: Path | None


def choose_arithmetic(config: TrainConfig, module: nn.Module, batch: ProbeBatch) -> Runtime:
    """Return the runtime that `config` asks for; with precision auto, a probe on copies of `module` chooses it.

    Raises `ConfigError` for a device or a precision that this machine does not support, or if it cannot compile a network that should be.
    """
    if config.optim.compile:
        check_compiler(choose_device(config.run.device))
    return choose_runtime(
        module,
        device=choose_device(config.run.device),
        precision=config.optim.precision,
        image_shape=batch.shape,
        batch_size=batch.size,
        deterministic=config.run.deterministic,
        freeze_norm=config.optim.freeze_norm,
        cache=cached_probe(batch.folder),
    )


def choose_larger(config: TrainConfig, module: nn.Module, runtime: Runtime, batch: ProbeBatch, ranks: int = 1) -> tuple[Tier | None, str]:
    """Return the larger tier that the budget allows at the speed of `module`, None if none fits; with a note, empty without tiers.

    The speed is that of one rank times the number of `ranks`.
    """
    if not config.larger:
        return None, ""
    speed = cached_speed(batch.folder, module, runtime, image_shape=batch.shape, batch_size=batch.size)
    return choose_tier(config.larger, config.optim.budget, ranks * speed, " ".join([config.model.arch, *config.model.set]))


def choose_compilation(
    config: TrainConfig, settings: OptimConfig, module: nn.Module, runtime: Runtime, batches: Batches, folder: Path | None
) -> tuple[Runtime, str, float]:
    """Return `runtime`, compiled if that saves more time than it takes, with a note and the seconds that the trial took now.

    `settings` are those of `config` with numbers for auto, `folder` that of the store, which keeps the times.
    ``--deterministic`` compiles without a trial, whose result depends on the clock.
    """
    if config.run.deterministic:
        return runtime.with_compilation(), "", 0.0
    shape = (batches.usual_size, *batches.canvases.shape[1:])
    frozen = settings.freeze_epochs / settings.epochs if not settings.budget else 0.0
    share = batches.usual_share * max(0.0, 1 - frozen) * (1 - START_SHARE if settings.start_size else 1)
    work = Work(batches.steps * settings.epochs, settings.budget, share)
    others = OtherPrograms(Meter())
    spent, ended = 0.0, False

    def trial() -> dict[str, Any]:
        nonlocal spent, ended
        start = time.perf_counter()
        times = time_compilation(module, settings, runtime, shape, work)
        spent, ended = time.perf_counter() - start, times.compiled is not None
        return asdict(times)

    key = (_machine(), *speed_key(module), runtime.facts(), shape, settings.accumulate > 1, settings.freeze_norm)

    def quiet() -> bool:
        return others.share() <= MAX_BUSY_SHARE

    def of_this_work() -> dict[str, Any]:  # a compilation that did not end has its limit, which depends on the work
        return cached_result(folder, "compilation", (*key, work), trial, should_keep=lambda: not ended and quiet())

    cached = cached_result(folder, "compilation", key, of_this_work, should_keep=lambda: ended and quiet())
    return *decide(runtime, CompileTimes(**cached), work), spent


def cached_probe(folder: Path | None, meter: Meter | None = None) -> ProbeCache:
    """Return a cache for `choose_runtime` that keeps results in `folder`, that of the store (None: no cache).

    A probe takes 1 to 2 s. The reason of a cached result names its day. A result measured while other programs were busy is not
    cached: see docs/benchmarks/LOG.md, "Probe beside other programs".
    """

    def lookup(key: Hashable, probe: Callable[[], Runtime]) -> Runtime:
        today = str(datetime.now().astimezone().date())
        others = OtherPrograms(meter or Meter())

        def compute() -> dict[str, Any]:
            found = probe()
            return {"runtime": found.facts(), "reason": found.reason, "day": today}

        cached = cached_result(folder, "probe", (_machine(), key), compute, should_keep=lambda: others.share() <= MAX_BUSY_SHARE)
        day = "" if cached["day"] == today else f", on {cached['day']}"
        return Runtime.from_facts(cached["runtime"], cached["reason"] + day)

    return lookup


def cached_speed(
    folder: Path | None,
    model: nn.Module,
    runtime: Runtime,
    *,
    image_shape: tuple[int, int, int],
    batch_size: int,
    measure: Measure = training_speed,
    meter: Meter | None = None,
) -> float:
    """Return the training speed of `model` in images a second, measured by `training_speed` or cached as `cached_probe` does."""
    others = OtherPrograms(meter or Meter())
    key = (_machine(), *speed_key(model), runtime.facts(), image_shape, batch_size)

    def compute() -> dict[str, Any]:
        return {"images_per_second": measure(model, runtime, image_shape=image_shape, batch_size=batch_size)}

    cached = cached_result(folder, "speed", key, compute, should_keep=lambda: others.share() <= MAX_BUSY_SHARE)
    return float(cached["images_per_second"])


def _machine() -> Hashable:
    """Return facts that distinguish machines of different speed, with the version of the probe."""
    return PROBE_VERSION, torch.__version__, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), os.cpu_count()
