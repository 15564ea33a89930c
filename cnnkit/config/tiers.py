"""Settings tiers: ``[[larger]]`` tables of recipes and ``--config`` files, chosen by what a time budget is enough for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cnnkit.config.parsing import flag
from cnnkit.errors import ConfigError


class Tier(BaseModel):
    """Settings that replace others where the budget lets at least `images` training images through the network they replace."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    images: int = Field(gt=0)
    model: dict[str, Any] = {}
    optim: dict[str, Any] = {}
    augment: dict[str, Any] = {}

    def tables(self) -> dict[str, dict[str, Any]]:
        """Return the settings by section; sections that stay as they are are left out."""
        return {name: values for name, values in self.model_dump(exclude={"images"}).items() if values}

    @property
    def keeps_canvases(self) -> bool:
        """Whether the images stay as they are: another architecture or image size needs other canvases."""
        return self.model.keys() <= {"set"}

    def flags(self) -> str:
        """Return the settings in the words of the command line: ``--set width=96 --batch-size 512``."""
        words: list[str] = []
        for values in self.tables().values():
            for field, value in values.items():
                words += [f"{flag(field)} {each}" for each in (value if isinstance(value, list | tuple) else [value])]
        return " ".join(words)


def parse_tier(table: Any, file: Path | None) -> Tier:
    """Read one ``[[larger]]`` table of `file`, which may hold anything; raises `ConfigError` that says what it must have."""
    try:
        return Tier.model_validate(table)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(
            f"--config {file}: [[larger]] must have images, a number above 0, and settings in tables such as [larger.model]: "
            f"{'.'.join(map(str, problem['loc'])) or 'this'}: {problem['msg'].lower()}"
        ) from None


def choose_tier(tiers: Sequence[Tier], budget: float, images_per_second: float, network: str) -> tuple[Tier | None, str]:
    """Return the largest of `tiers` (ascending, at least one) that `budget` seconds are enough for, and a sentence that says why.

    `images_per_second` training images go through the smallest network, named `network`. The number of images decides, not the
    seconds: a small network has learned all it can after some number of images, and a larger one needs more of them to be better.
    """
    images = budget * images_per_second
    fitting = [tier for tier in tiers if images >= tier.images]
    enough = f"--budget {budget:g}s is enough for about {float(f'{images:.2g}'):,.0f} images through {network}"
    if fitting:
        return fitting[-1], f"{enough}, so training uses {fitting[-1].flags()}"
    return None, f"{enough}; at {tiers[0].images:,} images or more it would use {tiers[0].flags()}"
