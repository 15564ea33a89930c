"""The function `train`: a complete training in one call from Python."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from cnnkit.api.inference.trained_model import TrainedModel, load_model
from cnnkit.api.training.job import TrainingJob
from cnnkit.api.training.prepare import prepare
from cnnkit.config.keywords import TrainingSettings
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import by_section
from cnnkit.data.sources.arrays import Images, Labels, Table, source_in_memory
from cnnkit.engine.fit import EpochResult
from cnnkit.errors import ConfigError, counted
from cnnkit.run_dir import RunDir


@dataclass(frozen=True, repr=False)
class TrainingResult:
    """A finished training: its run directory, its epochs and the best model, loaded from its file."""

    run: RunDir
    epochs: tuple[EpochResult, ...]
    model: TrainedModel

    @property
    def best(self) -> EpochResult:
        """The epoch whose network was kept."""
        return self.epochs[self.model.header.training["epoch"] - 1]

    def __repr__(self) -> str:
        best = self.best
        scores = f"val_loss {best.val_loss:.4f}, val_accuracy {best.val_accuracy:.4f}"
        return f"TrainingResult({str(self.run.path)!r}, best of {counted(len(self.epochs), 'epoch')}: {best.epoch}, {scores})"

    def _repr_html_(self) -> str:
        from cnnkit.report.page.notebook import table_html

        heads = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "best")
        rows = [
            (str(each.epoch), *map(_number, (each.train_loss, each.train_accuracy, each.val_loss, each.val_accuracy)), "*" * each.is_best)
            for each in self.epochs
        ]
        return table_html(heads, rows, caption=str(self.run.path))

    def to_dict(self) -> dict[str, Any]:
        """Return the folder of the run and its model, and the figures of every epoch."""
        return {
            "run": str(self.run.path),
            "model": str(self.run.best),
            "best_epoch": self.best.epoch,
            "epochs": [*map(asdict, self.epochs)],
        }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def train(
    data: str | Path | Table | None = None,
    *,
    images: Images | None = None,
    labels: Labels | None = None,
    arch: str | None = None,
    recipe: str | None = None,
    show: bool | None = None,
    **settings: Unpack[TrainingSettings],
) -> TrainingResult:
    """Train a classifier on `data`, or on `images` with `labels`, and return it with its run.

    `data` is a value of ``--data``, or a DataFrame with the columns ``path,label[,split][,group]``. `images` and `labels` are the
    arguments of `cnnkit.data.sources.arrays.ArraysSource`. `settings` are the flags of ``cnnkit train`` as keywords:
    ``train("images", epochs=10, lr=1e-3, set=["width=64"])``. `show` prints a line per epoch, by default in a notebook only. Raises
    `CnnkitError` for every error that the command reports (see `cnnkit.errors`).
    """
    source = source_in_memory("train", data, images, labels)
    if source is None and data is None:
        raise ConfigError("train() needs either data or both images and labels: train(data='./images') or train(images=..., labels=...)")
    given = {"data": str(data) if source is None else source.name, **({"arch": arch} if arch else {}), **settings}
    job = prepare(resolve(by_section(given), recipe=recipe), source=source)
    from cnnkit.report.terminal.live import is_shown

    run = job.begin()
    epochs = tuple(_shown_epochs(job) if is_shown(show) else job.epochs())
    return TrainingResult(run, epochs, replace(load_model(run), source=source))


def _shown_epochs(job: TrainingJob) -> Iterator[EpochResult]:
    """Yield the epochs of `job` and show each, with a bar for the current epoch where one can move."""
    from cnnkit.report.terminal.live import EpochTable, stdout_console

    optim = job.config.optim
    with EpochTable(stdout_console(), None if optim.budget else optim.epochs, images=job.batches.images) as table:
        for epoch in job.epochs(table.watch):
            table.add(epoch)
            yield epoch
