"""Continuing a run exactly where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnnkit.api.training.job import TrainingJob
from cnnkit.api.training.prepare import prepare
from cnnkit.config.settings import TrainConfig
from cnnkit.data.split.split_file import split_rows
from cnnkit.data.store.scan import Progress
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.state import load_state
from cnnkit.errors import DataError, ModelFileError
from cnnkit.run_dir import RunDir, newest


def resume(run: str | Path | None = None, *, progress: Progress | None = None) -> TrainingJob:
    """Return the job of a run that stopped, standing after its last whole epoch; `run` left out: the newest.

    The continued run equals one that never stopped: the same batches, augmentation, rates and dropout. Raises
    `ModelFileError` if the run is finished or has no state, `DataError` if its images are not those it began with.
    """
    directory = RunDir(Path(run)) if run is not None else newest(finished=False)
    record = directory.read_record()
    if record.status == "finished":
        raise ModelFileError(f"{directory.path}: this run is finished; to train further, start from it: --weights {directory.best}")
    runtime = Runtime.recorded(record.runtime.model_dump(), "as before")
    job = prepare(recorded_config(directory), progress=progress, runtime=runtime)
    _check_same_data(directory, job)
    load_state(directory.last, job.model, job.state)
    directory.trim_history(job.state.epoch)
    job.run = directory
    return job


def recorded_config(run: RunDir) -> TrainConfig:
    """Return the settings of a run, with its data and split where they are found from any working directory."""
    record = run.read_record()
    config = record.config
    where: dict[str, Any] = {"data": record.data.location}
    if config.data.split_file:
        where["split_file"] = run.split_file  # as it was: the user's may have changed, or lie relative to another folder
    return config.model_copy(update={"data": config.data.model_copy(update=where)})


def _check_same_data(run: RunDir, job: TrainingJob) -> None:
    before = {row["path"]: row for row in run.read_split()}
    now = {row["path"]: dict(row) for row in split_rows(job.dataset.samples)}
    changed = [path for path in before.keys() | now.keys() if before.get(path) != now.get(path)]
    if changed:
        raise DataError(
            f"{run.path}: {len(changed)} images of {job.config.data.data} are not as they were when the run began, such as {min(changed)}; "
            f"restore them, or start a new run"
        )
