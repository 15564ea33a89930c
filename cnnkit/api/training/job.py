"""A prepared training: the job that writes a run directory, epoch by epoch. `prepare` has checked the configuration."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor, nn

from cnnkit.api.training.model_header import Fingerprints, with_temperature
from cnnkit.config.settings import OptimConfig, TrainConfig
from cnnkit.data.augment.augment import Augmentation
from cnnkit.data.batches import Batches
from cnnkit.data.dataset import Dataset
from cnnkit.data.source import SPLITS
from cnnkit.engine.batch_source import BatchSource
from cnnkit.engine.fit import EpochResult, TrainingState, fit
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.state import save_state, state_file
from cnnkit.errors import DataError, TrainingStoppedError, describe_fault
from cnnkit.files import write_text
from cnnkit.metrics.units import Units
from cnnkit.model.file import ModelHeader, save_model
from cnnkit.run_dir import HistoryRow, RunDir, RunRecord, Status, create, runs_folder
from cnnkit.run_dir.document import UnreadableImage
from cnnkit.run_dir.record import RecordedArchitecture, RecordedAugmentation, RecordedData, RecordedResult, RecordedRuntime
from cnnkit.trackers.following import Followers

BatchWrapper = Callable[[BatchSource], BatchSource]


@dataclass
class TrainingJob:
    """A training that is ready to start; `begin` writes the first files, `epochs` trains.

    `config` holds numbers instead of ``auto``, and `optim` is its section for the engine. In a dry run ``config.optim.lr`` may still be
    auto; ``optim.lr`` is then the first rate of a range test.
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
        """The number of images per split."""
        return {split: len(self.dataset.of(split)) for split in SPLITS}

    def begin(self) -> RunDir:
        """Create the run directory and write config.json and split.csv into it."""
        self.run = create(self.config.run.out or runs_folder(), self.config.model.arch)
        write_text(self.run.split_file, self.dataset.split_text)
        self.record("running")
        return self.run

    def epochs(self, watch: BatchWrapper = lambda batches: batches) -> Iterator[EpochResult]:
        """Train; yield every epoch after saving its history row, its state and, if it is the best epoch, the model.

        `watch` wraps the training batches, for a progress bar. At the end of the training, also by an error, config.json gets the
        status. Raises `TrainingStoppedError` as `fit` does, if an image changes during the training, and if a file cannot be written.
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
        unit_of = {sample.row: sample.unit for sample in self.dataset.samples}
        val_units = Units.of([unit_of[row] for row in self.val_batches.rows.tolist()])
        status: Status = "stopped"
        try:
            self.followers.start(run.read_record().model_dump(mode="json"), run.path, self.state.epoch)
            for epoch in loop:
                if epoch.is_best:
                    facts = {"epoch": epoch.epoch, "monitor": self.config.stop.monitor, "value": self.state.stopping.best_value}
                    header = self.header.model_copy(update={"training": {**self.header.training, **facts}})
                    assert self.state.validation is not None  # noqa: S101 (the best epoch was evaluated)
                    header = fingerprints.add_to(with_temperature(header, self.state.validation, val_units), self.state.validation)
                    save_model(run.best, self.state.network_to_keep(self.model), header)
                run.append_history(HistoryRow.model_validate(epoch))
                save_state(run.last, self.model, self.state)
                self.followers.epoch(epoch)
                yield epoch
            status = "finished" if self.state.stopping.has_best else "failed"
        except DataError as error:  # with --cache none, an image was changed or removed during the training
            raise TrainingStoppedError(
                f"{error}\nthe finished epochs are kept; restore the image, then type: cnnkit resume {run.path}"
            ) from None
        except OSError as error:  # a full disk, for example
            raise TrainingStoppedError(_fault_message(error, run)) from error
        finally:
            self.record(status)  # before the trackers end, as a server may take long or be interrupted
            if self.followers.end(status):
                self.record(status)

    def record(self, status: Status) -> None:
        """Write config.json: all settings with their values, the results so far and `status`."""
        assert self.run is not None  # noqa: S101 (`begin` created it)
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
                    best_value=stopping.best_value if stopping.has_best else None,
                    stopped_early=stopping.exhausted,
                ),
            )
        )


def _fault_message(error: OSError, run: RunDir) -> str:
    """Return the message of an error of the system during a training: the file, the reason and the way to go on."""
    fault = describe_fault(error, run.path)
    if state_file(run.last).exists():
        return f"{fault}\nthe epochs up to the last saved state are kept; repair it or free some space, then type: cnnkit resume {run.path}"
    return f"{fault}\nno state was saved yet; repair it or free some space, then train again"


def _location(data: str) -> str:
    """Return the absolute path of `data`, so that a resume finds it from any working directory; a name of no file is kept."""
    return str(Path(data).resolve()) if Path(data).exists() else data
