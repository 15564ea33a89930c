"""A training from configuration to run directory: everything that can be refused is refused in `prepare`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor, nn

from cnnkit.api.training.model_header import Fingerprints, calibrated
from cnnkit.config.settings import OptimConfig, TrainConfig
from cnnkit.data.augment.augment import Augmentation
from cnnkit.data.batches import Batches
from cnnkit.data.dataset import Dataset
from cnnkit.data.source import SPLITS
from cnnkit.engine.batch_source import BatchSource
from cnnkit.engine.fit import EpochResult, TrainingState, fit
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.state import save_state
from cnnkit.errors import DataError, TrainingStoppedError
from cnnkit.files import write_text
from cnnkit.model.file import ModelHeader, save_model
from cnnkit.run_dir import HistoryRow, RunDir, RunRecord, Status, create, runs_folder
from cnnkit.run_dir.document import UnreadableImage
from cnnkit.run_dir.record import RecordedArchitecture, RecordedAugmentation, RecordedData, RecordedResult, RecordedRuntime
from cnnkit.trackers.following import Followers

Watch = Callable[[BatchSource], BatchSource]


@dataclass
class TrainingJob:
    """A training that is ready to start: nothing is written before `begin`, nothing learned before `epochs`.

    `config` has numbers where ``auto`` stood, and `optim` is that section of it for the engine. Only in a dry run ``config.optim.lr``
    may still be auto; ``optim.lr`` is then that with which a range test begins.
    """

    config: TrainConfig
    optim: OptimConfig
    dataset: Dataset
    model: nn.Module
    header: ModelHeader
    runtime: Runtime
    batches: Batches
    val_batches: Batches
    state: TrainingState
    augmentation: Augmentation
    weights: Tensor | None
    head: frozenset[str]
    notes: tuple[str, ...]
    followers: Followers
    run: RunDir | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Images per split."""
        return {split: len(self.dataset.of(split)) for split in SPLITS}

    def begin(self) -> RunDir:
        """Make the run directory and write config.json and split.csv into it."""
        self.run = create(self.config.run.out or runs_folder(), self.config.model.arch)
        write_text(self.run.split_file, self.dataset.split_text)
        self.record("running")
        return self.run

    def epochs(self, watch: Watch = lambda batches: batches) -> Iterator[EpochResult]:
        """Train, yielding every epoch after its history row, its state and, if it is the best so far, the model are saved.

        `watch` wraps the training batches, for a progress bar. Whatever ends the training, config.json says how.
        """
        run = self.run or self.begin()
        loop = fit(
            self.model,
            watch(self.batches),
            self.val_batches,
            self.optim,
            self.runtime,
            self.state,
            num_classes=len(self.header.classes),
            seed=self.config.run.seed,
            class_weights=self.weights,
            head=self.head,
        )
        fingerprints = Fingerprints(self.val_batches)
        status: Status = "stopped"
        try:
            self.followers.start(run.read_record().model_dump(mode="json"), run.path, self.state.epoch)
            for epoch in loop:
                if epoch.is_best:
                    facts = {"epoch": epoch.epoch, "monitor": self.config.stop.monitor, "value": self.state.stopping.best_value}
                    header = self.header.model_copy(update={"training": {**self.header.training, **facts}})
                    assert self.state.validation is not None  # noqa: S101 (by it the epoch is the best)
                    header = fingerprints.added(calibrated(header, self.state.validation), self.state.validation)
                    save_model(run.best, self.state.result(self.model), header)
                run.append_history(HistoryRow.model_validate(epoch))
                save_state(run.last, self.model, self.state)
                self.followers.epoch(epoch)
                yield epoch
            status = "finished" if self.state.stopping.best_epoch else "failed"
        except DataError as error:  # an image was changed or removed while it was still needed (--cache none)
            raise TrainingStoppedError(f"{error}\nthe epochs so far are kept; once the image is back: cnnkit resume {run.path}") from None
        finally:
            self.record(status)  # first: a server may take long to end, and be interrupted
            if self.followers.end(status):
                self.record(status)

    def record(self, status: Status) -> None:
        """Write config.json: everything resolved, and how far the training is (`status`)."""
        assert self.run is not None  # noqa: S101 (begin has made it)
        header, stopping = self.header, self.state.stopping
        self.run.write_record(
            RunRecord(
                status=status,
                command=tuple(sys.argv),
                config=self.config,
                classes=header.classes,
                arch=RecordedArchitecture(name=header.arch, options=header.options),
                preprocessing=header.preprocessing,
                augmentation=RecordedAugmentation.model_validate(asdict(self.augmentation)),
                runtime=RecordedRuntime.model_validate(self.runtime.facts()),
                versions=header.versions,
                data=RecordedData(location=_location(self.config.data.data), **header.training["data"]),
                unreadable=tuple(UnreadableImage(path=path, error=error) for path, error in self.dataset.bad),
                notes=(*self.notes, *self.followers.notes),
                result=RecordedResult(
                    epochs=self.state.epoch,
                    best_epoch=stopping.best_epoch,
                    monitor=self.config.stop.monitor,
                    best_value=stopping.best_value if stopping.best_epoch else None,
                    stopped_early=stopping.exhausted,
                ),
            )
        )


def _location(data: str) -> str:
    """Return ``--data`` in a form that names the same source from any working directory."""
    return str(Path(data).resolve()) if Path(data).exists() else data
