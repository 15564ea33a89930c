"""A prepared training: the job that writes a run directory, epoch by epoch. `prepare` has checked the configuration."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

from torch import Tensor, nn

from cnnkit.api.training.model_header import Fingerprints, with_proof, with_temperature
from cnnkit.config.settings import OptimConfig, TrainConfig
from cnnkit.data.augment.augment import AugmentationStrength
from cnnkit.data.batches import Batches
from cnnkit.data.dataset import Dataset
from cnnkit.data.shards.remote import ConnectionLostError
from cnnkit.data.source import SPLITS, located
from cnnkit.engine.batch_source import BatchSource
from cnnkit.engine.custom import BUILT_IN, Custom
from cnnkit.engine.fit import Checkpoint, EpochResult, TrainingState, fit
from cnnkit.engine.rank_environment import rank_environment
from cnnkit.engine.ranks import ONE, Ranks
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.state import has_state, save_state
from cnnkit.errors import (
    CnnkitError,
    RankLostError,
    TrainingStoppedError,
    describe_fault,
    hide_passwords,
    is_fault,
    is_out_of_memory,
    shell_path,
)
from cnnkit.files import write_bytes
from cnnkit.metrics.units import Units
from cnnkit.model.file import ModelHeader, save_model
from cnnkit.run_dir import HistoryRow, RunDir, RunRecord, Status, create, runs_folder
from cnnkit.run_dir.document import UnreadableImage
from cnnkit.run_dir.record import (
    RecordedArchitecture,
    RecordedAugmentation,
    RecordedData,
    RecordedExtension,
    RecordedResult,
    RecordedRuntime,
    RecordedTrial,
)
from cnnkit.trackers.following import Followers

BatchWrapper = Callable[[BatchSource], BatchSource]
MEMORY_REMEDY = "close other programs, or use a smaller --batch-size, --image-size or --arch"


@dataclass
class TrainingJob:
    """A training that is ready to start; `begin` writes the first files, `epochs` trains.

    `config` holds numbers instead of ``auto``, and `optim` is its section for the engine. In a dry run ``config.optim.lr`` may still be
    auto; ``optim.lr`` is then the first rate of a range test. A resumed job keeps `command` and the names in `config` as they were
    typed, has the `earlier_notes` of its run, and its images may have a new `location`. With several `ranks`, each has a job, and only
    that of rank 0 writes files; the job of another rank has no samples in its `dataset`.
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
    augmentation: AugmentationStrength
    weights: Tensor | None
    head: frozenset[str]
    notes: tuple[str, ...]
    followers: Followers
    custom: Custom = BUILT_IN
    extensions: tuple[RecordedExtension, ...] = ()
    run: RunDir | None = None
    result: RecordedResult | None = None  # after the latest saved epoch
    command: tuple[str, ...] = field(default_factory=lambda: tuple(map(hide_passwords, sys.argv)))
    location: str = ""  # of the images; empty: as `config` names them
    earlier_notes: tuple[str, ...] = ()
    trial: RecordedTrial | None = None  # of a search
    status_if_left: Status = "stopped"  # of a run whose caller leaves the loop over its epochs; a search prunes
    ranks: Ranks = ONE

    @property
    def counts(self) -> dict[str, int]:
        """The number of images per split."""
        return {split: len(self.dataset.of(split)) for split in SPLITS}

    def begin(self) -> RunDir:
        """Create the run directory, lock it for this process, and write config.json and split.csv into it.

        Raises `CnnkitError` if a file cannot be written.
        """
        self.run = self.ranks.agreed(self._create_run)
        return self.run

    def _create_run(self) -> RunDir:
        with refused_faults():
            self.run = create(self.config.run.out or runs_folder(), self.config.model.arch)
            try:
                self.run.take()
                write_bytes(self.run.split_file, self.dataset.split_csv)
                self.record("running")
            except BaseException:
                self.run.release()
                raise
        return self.run

    def epochs(self, watch: BatchWrapper = lambda batches: batches) -> Generator[EpochResult]:
        """Train; yield every epoch after saving its state, its history row and, if it is the best epoch, the model.

        `watch` wraps the training batches, for a progress bar. At the end of the training, also by an error, config.json gets the
        status and the run its lock off. Raises `TrainingStoppedError` as `fit` does, for a fault of the machine, and if an image changes
        during the training.
        """
        run, spec = self.run or self.begin(), self.header.preprocessing
        loop = fit(
            self.model,
            watch(self.batches),
            self._own_val_batches(),
            self.optim,
            self.runtime,
            self.state,
            num_classes=len(self.header.classes),
            seed=self.config.run.seed,
            class_weights=self.weights,
            custom=self.custom,
            head=self.head,
            checkpoint=self._checkpoint(run),
            ranks=self.ranks,
            compiled_shape=(self.batches.usual_size, spec.channels, spec.image_size, spec.image_size),
        )
        if not self.ranks.is_first:
            with stopping_faults(run):
                yield from loop
                self.ranks.agreed(lambda: None)  # rank 0 has written its last file
            return
        fingerprints = Fingerprints(self.val_batches)
        unit_of = {sample.row: sample.unit for sample in self.dataset.samples}
        val_units = Units.of([unit_of[row] for row in self.val_batches.rows.tolist()])
        status: Status = "stopped"
        self.result = self._result()
        try:
            with stopping_faults(run):
                if run.read_record().status != "running":  # a resumed run
                    self.record("running")
                self.followers.start(run.read_record().model_dump(mode="json"), run.path, self.state.ended)
                for epoch in loop:
                    if epoch.is_best:
                        self._save_best(run, epoch, fingerprints, val_units)
                    # The state before the row: a resume can add a missing row, but it cannot repeat the end of an epoch without its state.
                    save_state(run.last, self.model, self.state)
                    run.append_history(HistoryRow.model_validate(epoch))
                    self._add_memory_note()
                    self.result = self._result()
                    self.followers.epoch(epoch)
                    yield epoch
                ended: Status = "finished" if self.state.stopping.has_best else "failed"
                self.record(ended)
                status = ended
        except GeneratorExit:
            status = self.status_if_left
            raise
        finally:
            self._end(run, status)
        self.ranks.agreed(lambda: None)

    def _own_val_batches(self) -> Batches:
        """Return the batches of val that this rank validates; one process validates all of them."""
        val = self.val_batches
        return replace(val, rows=self.ranks.part(val.rows), labels=self.ranks.part(val.labels)) if self.ranks.several else val

    def _checkpoint(self, run: RunDir) -> Checkpoint | None:
        """Return the function that saves the state inside an epoch, as often as the settings say; None for never."""
        interval = self.config.run.save_every

        def save() -> None:
            if self.ranks.is_first:
                save_state(run.last, self.model, self.state)

        return Checkpoint(save, interval) if interval else None

    def _save_best(self, run: RunDir, epoch: EpochResult, fingerprints: Fingerprints, val_units: Units) -> None:
        """Write the model of the best `epoch`; its header has the temperature, the fingerprint of the validation images and the proof."""
        facts = {"epoch": epoch.epoch, "monitor": self.config.stop.monitor, "value": self.state.stopping.best_value}
        header = self.header.model_copy(update={"training": {**self.header.training, **facts}})
        assert self.state.validation is not None  # noqa: S101 (the best epoch was evaluated)
        header = fingerprints.add_to(with_temperature(header, self.state.validation, val_units), self.state.validation)
        kept = self.state.network_to_keep(self.model)
        save_model(run.best, kept, with_proof(header, kept))

    def _add_memory_note(self) -> None:
        """Add a note if the batches were divided because the memory was full."""
        parts, size = self.state.parts, self.optim.batch_size
        note = f"the memory was too small for {size} images at once: each step adds up the gradients of {parts} parts of its batch"
        if parts > 1 and note not in self.notes:
            self.notes = (*self.notes, f"{note}, so the batch size stays {size}")

    def _end(self, run: RunDir, status: Status) -> None:
        """Record the end of the training, tell the trackers, and give up the lock; no fault here hides the first one."""
        try:
            if status in {"stopped", "pruned"}:
                self._try_to_record(status)
            # After the record, as a server may take long or be interrupted. Trackers know no pruned training.
            if self.followers.end("stopped" if status == "pruned" else status):
                self._try_to_record(status)
        finally:
            run.release()

    def _try_to_record(self, status: Status) -> None:
        try:
            self.record(status)
        except Exception as error:
            if not (is_fault(error) or isinstance(error, CnnkitError)):
                raise

    def _result(self) -> RecordedResult:
        """Return the state of the training after the latest epoch."""
        stopping = self.state.stopping
        return RecordedResult(
            epochs=self.state.ended,
            best_epoch=stopping.best_epoch,
            monitor=self.config.stop.monitor,
            best_value=stopping.best_value if stopping.has_best else None,
            stopped_early=stopping.exhausted,
        )

    def record(self, status: Status) -> None:
        """Write config.json: all settings with their values, the results of the saved epochs and `status`."""
        assert self.run is not None  # noqa: S101 (`begin` created it)
        self.result = self.result or self._result()
        header = self.header
        self.run.write_record(
            RunRecord(
                status=status,
                command=self.command,
                config=self.config,
                classes=header.classes,
                arch=RecordedArchitecture(name=header.arch, options=header.options),
                preprocessing=header.preprocessing,
                augmentation=RecordedAugmentation.model_validate(asdict(self.augmentation)),
                runtime=RecordedRuntime.model_validate(self.runtime.facts()),
                versions=header.versions,
                data=RecordedData(location=located(self.location or self.config.data.data), **header.training["data"]),
                unreadable=tuple(UnreadableImage(path=path, error=error) for path, error in self.dataset.bad),
                notes=tuple(dict.fromkeys((*self.earlier_notes, *self.notes, *self.followers.notes))),
                result=self.result,
                trial=self.trial,
                extensions=self.extensions,
                ranks=self.ranks.world,
                launch=launch_name(),
            )
        )


def launch_name() -> str:
    """Return the name of the launch of this process by torchrun or SLURM, which its restarts share; an empty text without one."""
    environment = rank_environment()
    return environment.launch if environment else ""


@contextmanager
def refused_faults() -> Generator[None]:
    """Raise `CnnkitError` for a fault in the body, which prepares a training: nothing was trained yet."""
    try:
        yield
    except Exception as error:
        if not is_fault(error):
            raise
        remedy = MEMORY_REMEDY if is_out_of_memory(error) else "repair it or free some space, and type the command again"
        raise CnnkitError(f"{describe_fault(error, 'the files of the training')}; nothing was trained; {remedy}") from error


@contextmanager
def stopping_faults(run: RunDir) -> Generator[None]:
    """Raise `TrainingStoppedError` for a fault or an unusable file in the body, which trains: the message says how to continue."""
    try:
        yield
    except RankLostError as error:
        if not error.reported:
            raise RankLostError(f"{error}\n{_way_on(error, run)}", code=error.exit_code) from error
        raise
    except TrainingStoppedError:
        raise
    except Exception as error:
        if not (is_fault(error) or isinstance(error, CnnkitError)):
            raise
        fault = str(error) if isinstance(error, CnnkitError) else describe_fault(error, run.path)
        fault = error.fault if isinstance(error, ConnectionLostError) else fault
        raise TrainingStoppedError(f"{fault}\n{_way_on(error, run)}") from error


def _way_on(error: Exception, run: RunDir) -> str:
    """Return the kept files and the command that continues the training."""
    command = f"cnnkit resume {shell_path(run.path)}"
    repair = "close other programs" if is_out_of_memory(error) else "repair it or free some space"
    if isinstance(error, ConnectionLostError):
        repair = "wait until the address can be read"
    if isinstance(error, RankLostError):
        repair = "if the memory was full, use fewer ranks or a smaller --batch-size"
    if has_state(run.last):
        return f"the epochs up to the last saved state are kept; {repair}, then type: {command}"
    return f"no epoch was saved yet; {repair}, then start again with the same settings: {command}"
