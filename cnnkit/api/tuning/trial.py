"""One trial of a search: a new training with the settings of the trial, or the rest of one that another worker began."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cnnkit.api.training.job import TrainingJob
from cnnkit.api.training.prepare import prepare
from cnnkit.api.training.resume import resume
from cnnkit.config.settings import TrainConfig
from cnnkit.data.source import Source
from cnnkit.engine.fit import EpochResult
from cnnkit.errors import CnnkitError, DataError, ModelFileError, cut, is_fault, is_out_of_memory
from cnnkit.run_dir import RunDir, RunRecord, runs_in
from cnnkit.run_dir.owner import remove_lock
from cnnkit.run_dir.record import RecordedTrial
from cnnkit.tuning.study import Claim, Study
from cnnkit.tuning.worker import Worker

MAX_REASON_LENGTH = 300  # characters of a reason in the storage


class TrialFailedError(Exception):
    """A trial that ends without a result: its loss is not finite, its network does not fit into memory, its settings do not go together."""


@dataclass(frozen=True)
class TrialRun:
    """The run of a trial: a `job` to train, or None if its training had ended; `note` tells of a state that could not be resumed."""

    run: RunDir
    job: TrainingJob | None
    note: str = ""


def open_run(claim: Claim, config: TrainConfig, trial: RecordedTrial, folder: Path, source: Source | None = None) -> TrialRun:
    """Return the run of a trial: that of an earlier worker below `folder`, at its last saved state, or a new one.

    A run that cannot be resumed, because its files are damaged or on another machine, or its images were in memory, is left as it is and
    the trial starts again. `source` replaces the source that `config` names. Raises `TrialFailedError` for settings that no training takes.
    """
    note = ""
    earlier = None if claim.is_new else find_run_of(trial, folder, claim.stored.run)
    if earlier is not None:
        try:
            return _continue(earlier, claim.stored.worker)
        except CnnkitError as error:
            note = f"trial {claim.number} starts again, because {earlier.path} cannot be resumed: {error}"
    elif claim.stored.run:
        note = f"trial {claim.number} starts again, because its run {claim.stored.run} is not on this machine"
    with failing():
        job = prepare(config, source=source)
    job.trial = trial
    return TrialRun(job.begin(), job, note)


def find_run_of(trial: RecordedTrial, folder: Path, stored: str) -> RunDir | None:
    """Return the run that trains `trial`: the `stored` one or, if its worker died before it stored the path, the newest in `folder`."""
    for path in [Path(stored)] if stored else runs_in(folder):
        if (record := _record(RunDir(path))) is not None and record.trial == trial:
            return RunDir(path)
    return None


def _record(run: RunDir) -> RunRecord | None:
    try:
        return run.read_record()
    except ModelFileError:
        return None


def _continue(run: RunDir, dead: Worker | None) -> TrialRun:
    """Return `run` with the job of its rest; `dead` is the worker that trained it and has ended, if it is known."""
    record = run.read_record()
    if dead is not None and not dead.owner.is_visible:
        remove_lock(run.path, dead.owner)
    if record.status in {"finished", "failed", "pruned"}:
        return TrialRun(run, None)
    return TrialRun(run, resume(run.path))


def train(job: TrainingJob, claim: Claim, study: Study) -> Iterator[EpochResult]:
    """Train `job`; report every epoch and yield it. A trial that is worse than the others ends early, and its run is pruned.

    An epoch without a finite value of the monitored metric is not reported. Raises `TrialFailedError` if the training fails by its
    settings, and `TrainingStoppedError` for a fault of the machine, which ends the search.
    """
    monitor = job.config.stop.monitor
    report_history(job, claim, study)
    with closing(job.epochs()) as epochs:
        while (epoch := _next(epochs)) is not None:
            value, is_pruned = getattr(epoch, monitor), False
            if value is not None and math.isfinite(value):
                study.report(claim, epoch.epoch, value)
                is_pruned = not _is_last(job, epoch) and study.should_prune(claim)
            yield epoch
            if is_pruned:
                job.status_if_left = "pruned"
                break


def _next(epochs: Iterator[EpochResult]) -> EpochResult | None:
    with failing():
        return next(epochs, None)


def report_history(job: TrainingJob, claim: Claim, study: Study) -> None:
    """Report the epochs of a resumed run that its dead worker saved and did not report."""
    monitor = job.config.stop.monitor
    for row in job.run.read_history() if job.run else ():
        value = getattr(row, monitor, None)
        if value is not None and math.isfinite(value):
            study.report(claim, row.epoch, value)


def _is_last(job: TrainingJob, epoch: EpochResult) -> bool:
    return job.state.stopping.exhausted or (not job.optim.budget and epoch.epoch >= job.optim.epochs)


def finish(run: RunDir, claim: Claim, study: Study) -> None:
    """End the trial in the storage as its `run` ended."""
    record = run.read_record()
    best = record.result.best_value
    if record.status == "pruned":
        study.finish(claim, "pruned")
    elif best is None:
        study.finish(claim, "failed", reason=f"no epoch had a finite {record.result.monitor}")
    else:
        study.finish(claim, "complete", best)


@contextmanager
def failing() -> Generator[None]:
    """Raise `TrialFailedError` for an error in the body that the settings of the trial cause.

    A fault of the machine other than full memory, such as a full disk, and changed images pass: they concern every trial.
    """
    try:
        yield
    except CnnkitError as error:
        cause = error.__cause__
        is_machine = cause is not None and is_fault(cause) and not is_out_of_memory(cause)
        if is_machine or isinstance(error, DataError) or isinstance(cause, DataError):
            raise
        raise TrialFailedError(_shortened(str(error))) from None
    except Exception as error:
        if isinstance(error, OSError):
            raise
        raise TrialFailedError(_shortened(f"{type(error).__name__}: {error}")) from None


def _shortened(reason: str) -> str:
    return cut(" ".join(reason.split("\n", maxsplit=1)[0].split()), MAX_REASON_LENGTH)
