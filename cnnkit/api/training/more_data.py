"""``more_data``: trainings on parts of the training images, and the accuracy that more images promise.

Every training gets the same amount of work, in updates or, with a time budget, in seconds, so that a smaller part differs from
all images in nothing but the images: with equal epochs it would be trained less as well, and more images would seem to bring more.
Every training is validated on the same images of val; test is never opened.
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

from cnnkit.api.training.job import TrainingJob
from cnnkit.api.training.prepare import prepare
from cnnkit.config.settings import TrainConfig
from cnnkit.data.batches import Batches
from cnnkit.data.dataset import Dataset
from cnnkit.data.source import TRAIN, Source, open_source
from cnnkit.data.sources.folder import check_outside
from cnnkit.data.store.scan import Progress
from cnnkit.engine.validation import validate
from cnnkit.errors import ConfigError, TrainingStoppedError
from cnnkit.files import check_writable, write_csv, write_json
from cnnkit.metrics.growth import Forecast, forecast
from cnnkit.metrics.learning_curve import MIN_SIZES
from cnnkit.model.file import load_model

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
COLUMNS = ("share", "seed", "class", "images", "right", "support", "recall")  # of learning-curve.csv
NAME = "learning-curve"


@dataclass(frozen=True)
class PartTraining:
    """One training on a `share` of the training images: what the best of its `epochs` reached on val.

    `images`, `right` and `support` are per class: training images, right answers, validation images. `seconds` includes
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
        """The share of validation images with a right answer."""
        return sum(self.right) / sum(self.support)


class MoreData:
    """The trainings of a learning curve on the data and settings of `config`: ready to start, or to go on, in the folder `out`.

    `base` is the training on all images, prepared but not started. `finished` holds what is trained already: by
    an earlier call with the same settings and data, which is read back from the folder, and by `trainings`.
    Raises `ConfigError` for shares or seeds that make no curve and `CnnkitError` as `prepare` does.
    """

    def __init__(
        self, config: TrainConfig, out: Path, *, shares: Sequence[float] = SHARES, seeds: int = 1, progress: Progress | None = None
    ) -> None:
        self.shares, self.seeds, self.out = _checked(shares), seeds, out
        if seeds < 1:
            raise ConfigError(f"`--seeds` (={seeds}) must be at least 1")
        check_outside(out, config.data.data)
        check_writable(out)
        quiet = config.model_copy(update={"run": config.run.model_copy(update={"out": out, "log": ()})})
        data = config.data
        self._source: Source = open_source(data.data, download=data.download, group_by=data.group_by)
        self.base: TrainingJob = prepare(quiet, source=self._source, progress=progress)
        self._part = 1 / (len(self.shares) * seeds)  # of the budget, for each
        self._key = self._identity()
        self.finished: list[PartTraining] = self._read()

    @property
    def planned(self) -> list[tuple[float, int]]:
        """The (share, seed) of every training, those already finished too, in order."""
        first = self.base.config.run.seed
        return [(share, seed) for seed in range(first, first + self.seeds) for share in self.shares]

    def trainings(self, progress: Progress | None = None) -> Iterator[PartTraining]:
        """Train what is not finished, yielding each as it ends, after its figures are in the folder's files.

        `progress(done, total)` counts training images, of one training at a time. Raises `TrainingStoppedError` if one of
        them diverges; what is finished is kept, and the same call goes on with the rest.
        """
        done = {(each.share, each.seed) for each in self.finished}
        for share, seed in self.planned:
            if (share, seed) not in done:
                self.finished.append(self._train(share, seed, progress))
                self.write(None)
                yield self.finished[-1]

    def forecast(self, added: int) -> Forecast | None:
        """Say what `added` more images of a class would bring; None before three sizes are trained."""
        by_share = {share: [each for each in self.finished if each.share == share] for share in self.shares}
        sizes = [group for group in by_share.values() if group]
        if len(sizes) < MIN_SIZES:
            return None
        images, right = (
            np.array([np.mean([getattr(each, name) for each in group], axis=0) for group in sizes]) for name in ("images", "right")
        )
        return forecast(images, right, np.array(sizes[0][0].support), self.base.header.classes, added)

    def to_dict(self, outlook: Forecast | None) -> dict[str, Any]:
        """Return the document of learning-curve.json."""
        return {
            **(outlook.to_dict() if outlook else {}),
            "classes": list(self.base.header.classes),
            "shares": list(self.shares),
            "seeds": self.seeds,
            "trainings": [asdict(each) for each in self.finished],
            "settings": self.base.config.model_dump(mode="json"),
            "notes": list(self.base.notes),
            "key": self._key,
        }

    def write(self, outlook: Forecast | None) -> None:
        """Write learning-curve.csv and learning-curve.json, and with an outlook learning-curve.png, into the folder."""
        write_json(self.out / f"{NAME}.json", self.to_dict(outlook))
        write_csv(self.out / f"{NAME}.csv", COLUMNS, self._rows())
        if outlook is not None:
            from cnnkit.report.pictures.learning_curve import plot_forecast

            config = self.base.config
            plot_forecast(outlook, self.out / f"{NAME}.png", title=f"{config.model.arch} on {Path(config.data.data).name}")

    def _train(self, share: float, seed: int, progress: Progress | None) -> PartTraining:
        began = time.perf_counter()
        base = self.base
        part = base.dataset.thinned(share, seed)
        with TemporaryDirectory(dir=self.out, prefix=".training-") as folder:  # measured and thrown away: no run of the user's
            job = prepare(self._settings(part, seed, Path(folder)), source=self._source, dataset=part, runtime=base.runtime)
            for epoch in job.epochs():
                if progress:
                    done = epoch.epoch * job.batches.images
                    whole = job.optim.epochs * job.batches.images
                    progress(done, round(done * job.optim.budget / job.state.spent) if job.optim.budget else whole)
            best = job.state.stopping.best_epoch
            if not best or job.run is None:
                raise TrainingStoppedError(f"no epoch had a finite {job.config.stop.monitor} on a share of {share:g}; try a smaller --lr")
            module = job.runtime.prepare(load_model(job.run.best).module)
            table = validate(module, job.val_batches, job.runtime, len(job.header.classes)).table
        return PartTraining(
            share=share,
            seed=seed,
            epochs=job.state.epoch,
            best_epoch=best,
            seconds=time.perf_counter() - began,
            images=_per_class(part),
            right=tuple(map(int, table.diagonal())),
            support=tuple(map(int, table.sum(axis=1))),
        )

    def _settings(self, part: Dataset, seed: int, folder: Path) -> TrainConfig:
        """Return the settings of all images for a `part` of them: what is counted in epochs, counted in updates, stays."""
        config = self.base.config
        rows, labels = part.arrays(TRAIN)
        accumulate = config.optim.accumulate
        longer = _updates(self.base.batches, accumulate) / _updates(replace(self.base.batches, rows=rows, labels=labels), accumulate)
        epochs = max(1, round(longer * config.optim.epochs))
        optim = {
            "epochs": epochs,
            "budget": self._part * config.optim.budget,
            "warmup_epochs": min(longer * config.optim.warmup_epochs, float(epochs)),
            "freeze_epochs": round(longer * config.optim.freeze_epochs),
        }
        return config.model_copy(
            update={
                "optim": config.optim.model_copy(update=optim),
                "stop": config.stop.model_copy(update={"patience": math.ceil(longer * config.stop.patience)}),
                "run": config.run.model_copy(update={"seed": seed, "out": folder}),
            }
        )

    def _identity(self) -> str:
        """Return what the results depend on, as a hash: the settings as they were used, and the content of the images."""
        settings = self.base.config.model_dump(mode="json", exclude={"run": {"out"}})
        facts = {
            "settings": settings,
            "data": self.base.header.training["data"]["sha256"],
            "part": self._part if self.base.config.optim.budget else 1,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _read(self) -> list[PartTraining]:
        """Return the trainings of the folder that were made with these settings and images and belong to the plan."""
        try:
            known = json.loads((self.out / f"{NAME}.json").read_text("utf-8"))
            if known["key"] != self._key:
                return []
            kept = [_training(row) for row in known["trainings"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or of something else: it is trained anew
            return []
        return [each for each in kept if (each.share, each.seed) in set(self.planned)]

    def _rows(self) -> Iterator[dict[str, object]]:
        for each in self.finished:
            counts = zip(self.base.header.classes, each.images, each.right, each.support, strict=True)
            for name, images, right, support in (*counts, ("", sum(each.images), sum(each.right), sum(each.support))):
                figures = (each.share, each.seed, name, images, right, support, right / support if support else "")
                yield dict(zip(COLUMNS, figures, strict=True))


def _training(row: Mapping[str, Any]) -> PartTraining:
    """Read back what `asdict` made of it."""
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return PartTraining(**values)


def _checked(shares: Sequence[float]) -> tuple[float, ...]:
    """Return `shares` ascending; raises `ConfigError` if they make no curve that ends with all images."""
    chosen = tuple(sorted(set(shares)))
    if len(chosen) < MIN_SIZES or chosen[0] <= 0 or chosen[-1] != 1:
        given = ",".join(f"{share:g}" for share in shares)
        raise ConfigError(f"`--shares` (={given}) must be at least {MIN_SIZES} shares above 0 that end with 1, such as 1/8,1/4,1/2,1")
    return chosen


def _updates(batches: Batches, accumulate: int) -> int:
    return math.ceil(batches.steps / accumulate)


def _per_class(part: Dataset) -> tuple[int, ...]:
    _, labels = part.arrays(TRAIN)
    return tuple(map(int, np.bincount(labels, minlength=len(part.classes))))
