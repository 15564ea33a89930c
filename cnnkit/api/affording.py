"""What a time budget is enough for: the settings of a recipe, or the larger network that it has for more time or a faster machine."""

from __future__ import annotations

from cnnkit.config import TrainConfig
from cnnkit.larger import Larger


def afforded(config: TrainConfig, images_per_second: float, images: int) -> tuple[Larger | None, str]:
    """Return which of the larger settings of `config` the budget is enough for, None for none of them, and a sentence that says why.

    With its own network a pass over the `images` of train goes by at so many `images_per_second`. Passes, not seconds, decide: a network
    that has seen every image often enough has learned what it holds, and one too large for the time has not.
    """
    budget = config.optim.budget
    passes = budget * images_per_second / images
    fitting = [larger for larger in config.larger if passes >= larger.passes]
    network = " ".join([config.model.arch, *config.model.set])
    share = f"about {int(passes)} passes" if passes >= 1 else "less than a pass"
    found = f"{budget:g} s are enough for {share} of {network} over the training images"
    if fitting:
        return fitting[-1], f"{found}, so it is {_flags(fitting[-1])}"
    least = config.larger[0]
    return None, f"{found}; from {least.passes:g} passes on it would be {_flags(least)}"


def _flags(larger: Larger) -> str:
    """The settings in the words of the command line."""
    flags: list[str] = []
    for values in larger.tables().values():
        for field, value in values.items():
            flags += [f"--{field.replace('_', '-')} {each}" for each in (value if isinstance(value, list | tuple) else [value])]
    return " ".join(flags)
