"""The probe of the arithmetic, which the store on the disk remembers."""

from __future__ import annotations

import os
from collections.abc import Hashable
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnkit.api.stopwatch import BUSY, Meter, Others
from cnnkit.data.memo import remembered
from cnnkit.engine.probe import choose_runtime
from cnnkit.engine.runtime import Runtime

PROBED = 1  # raise when the probe tries or weighs other things: every training then probes anew


def probed_runtime(  # noqa: PLR0913 (values flow, not namespaces)
    folder: Path | None,
    model: nn.Module,
    *,
    device: torch.device,
    precision: str,
    image_shape: tuple[int, int, int],
    batch_size: int,
    deterministic: bool,
    compiled: bool,
    meter: Meter | None = None,
) -> Runtime:
    """Return what `choose_runtime` chooses, or chose before for just this, as the store `folder` remembers (None: there is none).

    A probe takes a second or two. What is remembered says of which day it is. What was chosen while other programs were busy is not
    remembered (measured: beside another training on two cores fp32 wins, alone bf16 is twice as fast).
    """

    def choose() -> Runtime:
        return choose_runtime(
            model,
            device=device,
            precision=precision,
            image_shape=image_shape,
            batch_size=batch_size,
            deterministic=deterministic,
            compiled=compiled,
        )

    if precision != "auto" or deterministic or device.type == "cuda":  # nothing is measured
        return choose()
    if compiled:  # which takes far longer than the probe, and asks anew whether there is a compiler
        return choose()

    others = Others(meter or Meter())

    def probe() -> dict[str, Any]:
        found = choose()
        return {"runtime": found.facts(), "reason": found.reason, "day": f"{today}"}

    today = datetime.now().astimezone().date()
    shapes = tuple(tuple(value.shape) for value in model.parameters())
    asked = (_machine(), str(model), shapes, device.type, image_shape, batch_size)
    answer = remembered(folder, "probe", asked, probe, keep=lambda: others.share() <= BUSY)
    then = "" if answer["day"] == f"{today}" else f", on {answer['day']}"
    return Runtime.recorded(answer["runtime"], answer["reason"] + then)


def _machine() -> Hashable:
    """What tells machines apart whose arithmetic is not equally fast."""
    return PROBED, torch.__version__, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), os.cpu_count()
