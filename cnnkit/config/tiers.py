"""Settings tiers: ``[[larger]]`` tables of recipes and ``--config`` files, for time budgets that allow a larger network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cnnkit.config.parsing import flag
from cnnkit.errors import ConfigError


class Tier(BaseModel):
    """Settings for a time budget in which at least `images` training images pass through the smallest network."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    images: int = Field(gt=0)
    model: dict[str, Any] = {}
    optim: dict[str, Any] = {}
    augment: dict[str, Any] = {}

    def tables(self) -> dict[str, dict[str, Any]]:
        """Return the settings by section, without sections that do not change."""
        return {name: values for name, values in self.model_dump(exclude={"images"}).items() if values}

    @property
    def keeps_canvases(self) -> bool:
        """Whether the tier needs the same canvases: another architecture or image size needs others."""
        return self.model.keys() <= {"set"}

    def flags(self) -> str:
        """Return the settings as flags of the command line: ``--set width=96 --batch-size 512``."""
        words: list[str] = []
        for values in self.tables().values():
            for field, value in values.items():
                words += [f"{flag(field)} {each}" for each in (value if isinstance(value, list | tuple) else [value])]
        return " ".join(words)


def parse_tier(table: Any, file: Path | None) -> Tier:
    """Parse one ``[[larger]]`` table of `file`; raises `ConfigError`, which names the required content, if it is wrong."""
    try:
        return Tier.model_validate(table)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(
            f"--config {file}: [[larger]] must have images, a number above 0, and settings in tables such as [larger.model]: "
            f"{'.'.join(map(str, problem['loc'])) or 'this'}: {problem['msg'].lower()}"
        ) from None


def choose_tier(tiers: Sequence[Tier], budget: float, images_per_second: float, network: str) -> tuple[Tier | None, str]:
    """Return the largest of `tiers` (ascending, at least one) for `budget` seconds, and a sentence with the reason.

    `images_per_second` is the training speed of the smallest network, named `network`. The number of images decides, not
    the seconds. After some number of images a small network stops improving, and a larger one needs more images to be better.
    """
    images = budget * images_per_second
    fitting = [tier for tier in tiers if images >= tier.images]
    enough = f"--budget {budget:g}s is enough for about {float(f'{images:.2g}'):,.0f} images through {network}"
    if fitting:
        return fitting[-1], f"{enough}, so training uses {fitting[-1].flags()}"
    return None, f"{enough}; at {tiers[0].images:,} images or more it would use {tiers[0].flags()}"
