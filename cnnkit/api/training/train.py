"""The function `train`: a complete training in one call from Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnkit.api.training.prepare import prepare
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import by_section
from cnnkit.data.sources.arrays import ArraysSource, Images, Labels
from cnnkit.engine.fit import EpochResult
from cnnkit.errors import ConfigError
from cnnkit.model.file import Model, load_model
from cnnkit.run_dir import RunDir


@dataclass(frozen=True)
class TrainingResult:
    """A finished training: its run directory, its epochs and the best model, loaded from its file."""

    run: RunDir
    epochs: tuple[EpochResult, ...]
    model: Model


def train(
    data: str | Path | None = None,
    *,
    images: Images | None = None,
    labels: Labels | None = None,
    arch: str | None = None,
    recipe: str | None = None,
    **settings: Any,
) -> TrainingResult:
    """Train a classifier on `data`, or on `images` with `labels`, and return it with its run.

    `images` and `labels` are the arguments of `cnnkit.data.sources.arrays.ArraysSource`. `settings` are the flags of ``cnnkit train``
    as keywords: ``train("images", epochs=10, lr=1e-3, set=["width=64"])``. Raises `CnnkitError` for every error that the command
    reports (see `cnnkit.errors`).
    """
    if (data is None) == (images is None) or (images is None) != (labels is None):
        raise ConfigError("train() needs either data or both images and labels: train('./images') or train(images=..., labels=...)")
    source = None if images is None or labels is None else ArraysSource(images, labels)
    given = {"data": str(data) if source is None else source.name, **({"arch": arch} if arch else {}), **settings}
    job = prepare(resolve(by_section(given), recipe=recipe), source=source)
    run = job.begin()
    epochs = tuple(job.epochs())
    return TrainingResult(run, epochs, load_model(run.best))
