"""Settings for budgets that are enough for more: ``[[larger]]`` tables of recipes and ``--config`` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cnnkit.errors import ConfigError


class Larger(BaseModel):
    """Settings that take the place of the others where a time budget is enough for so many training `images` through their network."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    images: int = Field(gt=0)
    model: dict[str, Any] = {}
    optim: dict[str, Any] = {}
    augment: dict[str, Any] = {}

    def tables(self) -> dict[str, dict[str, Any]]:
        """Return the settings by section, without sections that stay as they are."""
        return {name: values for name, values in self.model_dump(exclude={"images"}).items() if values}


def parsed(table: Any, file: Path | None) -> Larger:
    """Read one table, which may be anything, of `file`; raises `ConfigError` that says what it must have."""
    try:
        return Larger.model_validate(table)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(
            f"--config {file}: [[larger]] must have images, a number above 0, and settings in tables such as [larger.model]: "
            f"{'.'.join(map(str, problem['loc'])) or 'this'}: {problem['msg'].lower()}"
        ) from None
