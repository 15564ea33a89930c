"""The own settings of a search, beside those of its trainings: its name, the number of its trials, its time and its sampler."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import TypeAdapter, ValidationError

from cnnkit.config.parsing import Duration
from cnnkit.errors import ConfigError, closest

Sampler = Literal["tpe", "random"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
DEFAULT_SAMPLER: Sampler = "tpe"
DEFAULT_TRIALS = 30  # a quarter of them is drawn at random, which leaves some twenty to the sampler


def check_search(name: str | None, trials: int, sampler: str) -> None:
    """Raise `ConfigError` for the name of a search that is no file name, fewer than one trial, or an unknown sampler."""
    for flag, value in (("--name", name), ("--sampler", sampler)):
        if value is not None and not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"`{flag}` (={value!r}) must be a text, got a value of type {type(value).__name__}")
    if name is not None and (not name or name.startswith(".") or not all(letter.isalnum() or letter in "-_." for letter in name)):
        raise ConfigError(f"`--name` (={name}) must have letters, digits, - and _ alone, such as --name lr-and-width")
    if not isinstance(trials, int) or isinstance(trials, bool) or trials < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"`--trials` (={trials}) must be a whole number of at least 1, such as {DEFAULT_TRIALS}")
    if sampler not in SAMPLERS:
        raise ConfigError(f"`--sampler` (={sampler}) must be one of {', '.join(SAMPLERS)}{closest(sampler, SAMPLERS)}")


def budget_seconds(budget: str | float | None) -> float:
    """Return the seconds that the ``--budget`` of a search means; 0 without it."""
    try:
        seconds = TypeAdapter(Duration).validate_python(budget or 0.0)
    except ValidationError:
        raise ConfigError(f"`--budget` (={budget}) must be a time such as 90s, 30m or 2h") from None
    if budget is not None and not seconds > 0:
        raise ConfigError(f"`--budget` (={budget}) must be above 0; leave it out for no limit")
    return seconds
