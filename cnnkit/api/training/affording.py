"""What a time budget is enough for: the settings of a recipe, or the larger network that it has for more time or a faster machine."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from cnnkit.api.training.probe_cache import known_speed
from cnnkit.config.settings import TrainConfig, flag
from cnnkit.config.tiers import Larger
from cnnkit.engine.runtime import Runtime


def choose_larger(
    config: TrainConfig, model: nn.Module, runtime: Runtime, *, image_shape: tuple[int, int, int], batch_size: int, folder: Path | None
) -> tuple[Larger | None, str]:
    """Return what `afforded` says by the speed of `model`, which the store in `folder` may remember; nothing if there is no choice."""
    if not config.larger:
        return None, ""
    return afforded(config, known_speed(folder, model, runtime, image_shape=image_shape, batch_size=batch_size))


def afforded(config: TrainConfig, images_per_second: float) -> tuple[Larger | None, str]:
    """Return which of the larger settings of `config` the budget is enough for, None for none of them, and a sentence that says why.

    So many training `images_per_second` go through its own network. Their number decides, not seconds: after some a small network has
    learned what it holds, and a large one has not learned enough before.
    """
    budget = config.optim.budget
    images = budget * images_per_second
    fitting = [larger for larger in config.larger if images >= larger.images]
    found = (
        f"{budget:g} s are enough for about {float(f'{images:.2g}'):,.0f} images through {' '.join([config.model.arch, *config.model.set])}"
    )
    if fitting:
        return fitting[-1], f"{found}, so it is {_flags(fitting[-1])}"
    least = config.larger[0]
    return None, f"{found}; from {least.images:,} on it would be {_flags(least)}"


def _flags(larger: Larger) -> str:
    """The settings in the words of the command line."""
    flags: list[str] = []
    for values in larger.tables().values():
        for field, value in values.items():
            flags += [f"{flag(field)} {each}" for each in (value if isinstance(value, list | tuple) else [value])]
    return " ".join(flags)
