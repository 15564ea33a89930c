"""The probe of a network before its training, its arithmetic and its speed, remembered beside the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnkit.data.store.cached_results import cached_result
from cnnkit.engine.probe import ProbeCache, speed_key, training_speed
from cnnkit.engine.runtime import Runtime
from cnnkit.speed.stopwatch import MAX_BUSY_SHARE, Meter, OtherPrograms

Measure = Callable[..., float]  # `training_speed`
PROBED = 1  # raise when the probe tries or weighs other things: every training then probes anew


def cached_probe(folder: Path | None, meter: Meter | None = None) -> ProbeCache:
    """Return what `choose_runtime` may ask before it probes: the store in `folder` remembers for it (None: there is none).

    A probe takes a second or two. What is remembered says of which day it is. What was chosen while other programs were busy is not
    remembered: see docs/benchmarks/LOG.md, "Probe beside other programs".
    """

    def remember(asked: Hashable, probe: Callable[[], Runtime]) -> Runtime:
        today = str(datetime.now().astimezone().date())
        others = OtherPrograms(meter or Meter())

        def work() -> dict[str, Any]:
            found = probe()
            return {"runtime": found.facts(), "reason": found.reason, "day": today}

        answer = cached_result(folder, "probe", (_machine(), asked), work, should_keep=lambda: others.share() <= MAX_BUSY_SHARE)
        then = "" if answer["day"] == today else f", on {answer['day']}"
        return Runtime.from_facts(answer["runtime"], answer["reason"] + then)

    return remember


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
    """Return what `training_speed` measures of `model`, in images a second, or has measured: remembered as the probe is."""
    others = OtherPrograms(meter or Meter())
    asked = (_machine(), *speed_key(model), runtime.facts(), image_shape, batch_size)

    def work() -> dict[str, Any]:
        return {"images_per_second": measure(model, runtime, image_shape=image_shape, batch_size=batch_size)}

    answer = cached_result(folder, "speed", asked, work, should_keep=lambda: others.share() <= MAX_BUSY_SHARE)
    return float(answer["images_per_second"])


def _machine() -> Hashable:
    """What tells machines apart whose arithmetic is not equally fast."""
    return PROBED, torch.__version__, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), os.cpu_count()
