"""The command ``more-data``: trainings on parts of the training images, and a forecast of the accuracy with more images.

Every training gets the same number of updates or, with a time budget, the same seconds. With equal epochs a smaller part would get
fewer updates, and the forecast would be too high. All trainings are validated on the same val images; test stays unopened.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from cnnkit.api.training.images import open_training_source
from cnnkit.api.training.job import TrainingJob
from cnnkit.api.training.prepare import prepare
from cnnkit.config.settings import TrainConfig
from cnnkit.data.batches import Batches
from cnnkit.data.dataset import Dataset
from cnnkit.data.progress import Progress
from cnnkit.data.source import TRAIN, Source
from cnnkit.data.sources.folder import check_outside
from cnnkit.engine.validation import validate
from cnnkit.errors import ConfigError, TrainingStoppedError
from cnnkit.files import check_writable, read_json, write_csv, write_json
from cnnkit.metrics.growth import Forecast, forecast
from cnnkit.metrics.learning_curve import MIN_SIZES
from cnnkit.model.file import load_model

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
COLUMNS = ("share", "seed", "class", "images", "right", "support", "recall")  # of learning-curve.csv
FILE_NAME = "learning-curve"


@dataclass(frozen=True)
class PartTraining:
    """A training on a `share` of the training images, and the result of its best epoch on val.

    Per class, `images` counts the training images, `support` the val images and `right` the right predictions. `seconds` includes
    validation.
    """

    share: float
    seed: int
    epochs: int
    best_epoch: int
    seconds: float
    images: tuple[int, ...]
    right: tuple[int, ...]
    support: tuple[int, ...]

    @property
    def accuracy(self) -> float:
        """The accuracy on val, in [0, 1]."""
        return sum(self.right) / sum(self.support)


class MoreData:
    """The trainings of a learning curve with the data and settings of `config`, kept in the folder `out`.

    `base` is the prepared training on all images. `finished` holds the finished trainings, also those that an earlier call with the
    same settings and data left in the folder. Raises `ConfigError` for shares or seeds that give no curve, and `CnnkitError` as
    `prepare` does.
    """

    def __init__(
        self, config: TrainConfig, out: Path, *, shares: Sequence[float] = SHARES, seeds: int = 1, progress: Progress | None = None
    ) -> None:
        self.shares, self.seeds, self.out = _check_shares(shares), seeds, out
        if seeds < 1:
            raise ConfigError(f"`--seeds` (={seeds}) must be at least 1: type --seeds 1")
        check_outside(out, config.data.data)
        check_writable(out)
        quiet = config.model_copy(update={"run": config.run.model_copy(update={"out": out, "log": ()})})
        self._source: Source = open_training_source(config.data, progress)
        self.base: TrainingJob = prepare(quiet, source=self._source, progress=progress)
        self._budget_share = 1 / (len(self.shares) * seeds)  # of one training
        self._key = self._hash_inputs()
        self.finished: list[PartTraining] = self._read()

    @property
    def planned(self) -> list[tuple[float, int]]:
        """The share and the seed of every training, finished or not, in order."""
        first = self.base.config.run.seed
        return [(share, seed) for seed in range(first, first + self.seeds) for share in self.shares]

    def trainings(self, progress: Progress | None = None) -> Iterator[PartTraining]:
        """Run the trainings that are not finished; yield every training after writing its figures to the folder.

        `progress(done, total)` counts the images of the current training. Raises `TrainingStoppedError` if a training diverges; the
        finished trainings are kept, and another call runs the others.
        """
        done = {(each.share, each.seed) for each in self.finished}
        for share, seed in self.planned:
            if (share, seed) not in done:
                self.finished.append(self._train(share, seed, progress))
                self.write(None)
                yield self.finished[-1]

    def forecast(self, added: int) -> Forecast | None:
        """Return the forecast for `added` more images per class; None if fewer than `MIN_SIZES` sizes are trained."""
        by_share = {share: [each for each in self.finished if each.share == share] for share in self.shares}
        sizes = [group for group in by_share.values() if group]
        if len(sizes) < MIN_SIZES:
            return None
        images, right = (
            np.array([np.mean([getattr(each, name) for each in group], axis=0) for group in sizes]) for name in ("images", "right")
        )
        return forecast(images, right, np.array(sizes[0][0].support), self.base.header.classes, added)

    def to_dict(self, curve_forecast: Forecast | None) -> dict[str, Any]:
        """Return the object of learning-curve.json."""
        return {
            **(curve_forecast.to_dict() if curve_forecast else {}),
            "classes": list(self.base.header.classes),
            "shares": list(self.shares),
            "seeds": self.seeds,
            "trainings": [asdict(each) for each in self.finished],
            "settings": self.base.config.model_dump(mode="json"),
            "notes": list(self.base.notes),
            "key": self._key,
        }

    def write(self, curve_forecast: Forecast | None) -> None:
        """Write learning-curve.csv, learning-curve.json and, with a forecast, learning-curve.png into the folder."""
        write_json(self.out / f"{FILE_NAME}.json", self.to_dict(curve_forecast))
        write_csv(self.out / f"{FILE_NAME}.csv", COLUMNS, self._rows())
        if curve_forecast is not None:
            from cnnkit.report.pictures.learning_curve import plot_forecast

            config = self.base.config
            plot_forecast(curve_forecast, self.out / f"{FILE_NAME}.png", title=f"{config.model.arch} on {Path(config.data.data).name}")

    def _train(self, share: float, seed: int, progress: Progress | None) -> PartTraining:
        """Train on a `share` of the images in a temporary folder and validate the best epoch."""
        start = time.perf_counter()
        base = self.base
        part = base.dataset.thinned(share, seed)
        with TemporaryDirectory(dir=self.out, prefix=".training-") as folder:
            job = prepare(self._settings(part, seed, Path(folder)), source=self._source, dataset=part, runtime=base.runtime)
            for epoch in job.epochs():
                if progress:
                    done = epoch.epoch * job.batches.images
                    total = job.optim.epochs * job.batches.images
                    progress(done, round(done * job.optim.budget / job.state.spent) if job.optim.budget else total)
            stopping = job.state.stopping
            if not stopping.has_best or job.run is None:
                raise TrainingStoppedError(
                    f"with a share of {share:g}, no epoch had a finite {job.config.stop.monitor}; type a smaller --lr than {job.optim.lr:g}"
                )
            module = job.runtime.prepare(load_model(job.run.best).module)
            table = validate(module, job.val_batches, job.runtime, len(job.header.classes)).table
        return PartTraining(
            share=share,
            seed=seed,
            epochs=job.state.epoch,
            best_epoch=stopping.best_epoch,
            seconds=time.perf_counter() - start,
            images=_per_class(part),
            right=tuple(map(int, table.diagonal())),
            support=tuple(map(int, table.sum(axis=1))),
        )

    def _settings(self, part: Dataset, seed: int, folder: Path) -> TrainConfig:
        """Return the settings for a `part` of the images; settings in epochs are stretched to the same number of updates."""
        config = self.base.config
        rows, labels = part.arrays(TRAIN)
        accumulate = config.optim.accumulate
        batches = replace(self.base.batches, rows=rows, labels=labels)
        stretch = _updates_per_epoch(self.base.batches, accumulate) / _updates_per_epoch(batches, accumulate)
        epochs = max(1, round(stretch * config.optim.epochs))
        optim = {
            "epochs": epochs,
            "budget": self._budget_share * config.optim.budget,
            "warmup_epochs": min(stretch * config.optim.warmup_epochs, float(epochs)),
            "freeze_epochs": round(stretch * config.optim.freeze_epochs),
        }
        return config.model_copy(
            update={
                "optim": config.optim.model_copy(update=optim),
                "stop": config.stop.model_copy(update={"patience": math.ceil(stretch * config.stop.patience)}),
                "run": config.run.model_copy(update={"seed": seed, "out": folder}),
            }
        )

    def _hash_inputs(self) -> str:
        """Return a hash of everything the results depend on: the settings and the content of the images."""
        settings = self.base.config.model_dump(mode="json", exclude={"run": {"out"}})
        facts = {
            "settings": settings,
            "data": self.base.header.training["data"]["sha256"],
            "part": self._budget_share if self.base.config.optim.budget else 1,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _read(self) -> list[PartTraining]:
        """Return the trainings in the folder that have the same settings and images and are planned."""
        try:
            document = read_json(self.out / f"{FILE_NAME}.json")
            if document["key"] != self._key:
                return []
            kept = [_training(row) for row in document["trainings"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no file or another one: train anew
            return []
        return [each for each in kept if (each.share, each.seed) in set(self.planned)]

    def _rows(self) -> Iterator[dict[str, object]]:
        for each in self.finished:
            counts = zip(self.base.header.classes, each.images, each.right, each.support, strict=True)
            for name, images, right, support in (*counts, ("", sum(each.images), sum(each.right), sum(each.support))):
                figures = (each.share, each.seed, name, images, right, support, right / support if support else "")
                yield dict(zip(COLUMNS, figures, strict=True))


def _training(row: Mapping[str, Any]) -> PartTraining:
    """Return the training whose fields are in `row`, as `asdict` wrote them."""
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return PartTraining(**values)


def _check_shares(shares: Sequence[float]) -> tuple[float, ...]:
    """Return `shares` ascending; raise `ConfigError` unless at least `MIN_SIZES` differ and the last is 1."""
    chosen = tuple(sorted(set(shares)))
    if len(chosen) < MIN_SIZES or chosen[0] <= 0 or chosen[-1] != 1:
        given = ",".join(f"{share:g}" for share in shares)
        raise ConfigError(
            f"`--shares` (={given}) must be at least {MIN_SIZES} different shares above 0, the largest 1, such as 1/8,1/4,1/2,1"
        )
    return chosen


def _updates_per_epoch(batches: Batches, accumulate: int) -> int:
    return math.ceil(batches.steps / accumulate)


def _per_class(part: Dataset) -> tuple[int, ...]:
    _, labels = part.arrays(TRAIN)
    return tuple(map(int, np.bincount(labels, minlength=len(part.classes))))
