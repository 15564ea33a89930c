"""The repetition of a finished training from its record, and its comparison with the first run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnkit.api.training.job import TrainingJob
from cnnkit.api.training.resume import check_versions, prepare_recorded, run_at
from cnnkit.data.progress import Progress
from cnnkit.engine.ranks import ONE, Ranks
from cnnkit.errors import ModelFileError, counted, shell_path
from cnnkit.files import fingerprint
from cnnkit.run_dir import HistoryRow, RunDir, RunRecord, find_run, runs_folder

FIGURES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
ROUNDING = 1e-6  # relative difference of two figures that are the same but for the order of a sum


@dataclass(frozen=True)
class Difference:
    """A figure of an epoch that differs beyond rounding; None if the epoch was not evaluated."""

    epoch: int
    figure: str
    first: float | None
    again: float | None


@dataclass(frozen=True)
class Repetition:
    """Two runs of the same record: their numbers of epochs, the figures that differ, and whether the model files are bit-equal."""

    first: RunDir
    again: RunDir
    epochs: tuple[int, int]
    differences: tuple[Difference, ...]
    same_model: bool
    deterministic: bool

    @property
    def same_figures(self) -> bool:
        """True if both runs have the same epochs with the same figures, but for rounding."""
        return not self.differences and self.epochs[0] == self.epochs[1]

    @property
    def verdict(self) -> str:
        """The comparison in a sentence."""
        first, again = self.epochs
        models = f"the model files {'are bit-equal' if self.same_model else 'differ'}"
        if self.same_figures:
            return f"the repetition has the same figures in all {counted(again, 'epoch')}, and {models}"
        lengths = "" if first == again else f"the repetition has {counted(again, 'epoch')}, the first run {first}; "
        if not self.differences:
            return f"{lengths}the figures of the common epochs are the same, and {models}"
        epochs = len({difference.epoch for difference in self.differences})
        return f"{lengths}the figures differ in {epochs} of {min(first, again)} epochs, and {models}"

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain values."""
        return {
            "first": str(self.first.path),
            "again": str(self.again.path),
            "epochs": {"first": self.epochs[0], "again": self.epochs[1]},
            "deterministic": self.deterministic,
            "same_figures": self.same_figures,
            "same_model": self.same_model,
            "differences": [*map(asdict, self.differences)],
        }


def rerun(run: str | Path, *, data: str | None = None, progress: Progress | None = None, ranks: Ranks = ONE) -> TrainingJob:
    """Return a new training with the settings, the images, the seed and the arithmetic of a finished `run`.

    `data` is the location of the images, if they have moved. Other versions of the packages are a note, as a repetition may test them.
    The new run directory stands beside that of `run`. Several `ranks` repeat it together; rank 0 alone reads the run. Raises
    `ModelFileError` if the run is not finished or damaged, `ConfigError` if this machine lacks its device, `DataError` if its images are
    not found or have changed.
    """
    directory, record = ranks.agreed(lambda: _finished(run_at(find_run(run))))
    job = prepare_recorded(directory, record, data, progress, fit_head=True, command="rerun", ranks=ranks)
    folder = directory.path.absolute().parent
    out = None if folder.resolve() == runs_folder().resolve() else folder
    job.config = job.config.model_copy(update={"run": job.config.run.model_copy(update={"out": out})})
    job.notes = (*filter(None, [check_versions(record, ""), _ranks_note(record, ranks.world)]), *job.notes)
    return job


def _finished(run: RunDir) -> tuple[RunDir, RunRecord]:
    """Return `run` and its record; raises `ModelFileError` if it is not finished."""
    record = run.read_record()
    if record.status != "finished":
        way_on = f"cnnkit resume {shell_path(run.path)}"
        raise ModelFileError(f"{run.path}: this run is not finished; finish it before it is repeated: {way_on}")
    return run, record


def _ranks_note(record: RunRecord, world: int) -> str:
    """Return a note if another number of ranks than `world` trained the run; else an empty text."""
    if record.ranks == world:
        return ""
    differs = "dropout and the statistics of batch normalisation differ, and sums are rounded in another way"
    first = f"{record.ranks} ranks trained the run" if record.ranks > 1 else "one process trained the run"
    return f"{first}, and {f'{world} ranks repeat' if world > 1 else 'one process repeats'} it: {differs}"


def compare_repetition(first: RunDir, again: RunDir) -> Repetition:
    """Compare the epochs and the model files of two runs, of which `again` repeats `first`.

    Raises `ModelFileError` if a file of a run is damaged or missing.
    """
    (record, rows), (_, rows_again) = first.read_training(), again.read_training()
    differences = tuple(found for pair in zip(rows, rows_again, strict=False) for found in _differences(*pair))
    same_model = fingerprint(first.best) == fingerprint(again.best)
    return Repetition(first, again, (len(rows), len(rows_again)), differences, same_model, record.config.run.deterministic)


def _differences(first: HistoryRow, again: HistoryRow) -> list[Difference]:
    """Return the figures of an epoch that differ beyond rounding."""
    pairs = ((name, getattr(first, name), getattr(again, name)) for name in FIGURES)
    return [Difference(first.epoch, name, one, other) for name, one, other in pairs if not _is_same(one, other)]


def _is_same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=ROUNDING) or (math.isnan(one) and math.isnan(other))
