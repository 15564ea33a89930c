"""Fixtures for trainings that are small enough for a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cnnkit.api.training.job import TrainingJob
from cnnkit.api.training.prepare import prepare
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import TrainConfig, by_section


def configure(data: Path | str, **flags: object) -> TrainConfig:
    small = {"set": ("width=8", "blocks=2", "dense=32"), "precision": "fp32", "batch_size": 16}
    return resolve(by_section({"data": str(data), **small, **flags}))


@pytest.fixture
def small_config() -> Callable[..., TrainConfig]:
    """Return a function that configures a small training on `data`; keywords are flags: ``small_config(data, epochs=2)``."""
    return configure


@pytest.fixture
def dry_job() -> Callable[..., TrainingJob]:
    """Return a function that prepares a dry run of a small training: ``dry_job(data, channels=1)``."""
    return lambda data, **flags: prepare(configure(data, **flags), dry_run=True)
