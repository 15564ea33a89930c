"""The exact continuation of a stopped run."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cnnkit.api.training.job import TrainingJob, launch_name, refused_faults
from cnnkit.api.training.model_header import changed_versions
from cnnkit.api.training.prepare import prepare
from cnnkit.config.passwords import keep_passwords
from cnnkit.config.settings import TrainConfig
from cnnkit.data.progress import Progress
from cnnkit.data.shards.named_addresses import check_named
from cnnkit.data.split.split_file import split_rows
from cnnkit.engine.ranks import ONE, Ranks
from cnnkit.engine.runtime import Runtime, usable_devices
from cnnkit.engine.state import has_state, load_state, share_state
from cnnkit.errors import ConfigError, DataError, ModelFileError, counted, listed, shell_path, shell_word, verb
from cnnkit.model.file import read_header
from cnnkit.run_dir import SPLIT_COLUMNS, HistoryRow, RunDir, RunRecord, find_run, newest, runs_folder, runs_in
from cnnkit.run_dir.owner import read_owner, remove_lock

MAX_NAMED = 5  # images that a message names


def resume(
    run: str | Path | None = None,
    *,
    data: str | None = None,
    accept_versions: bool = False,
    progress: Progress | None = None,
    ranks: Ranks = ONE,
) -> TrainingJob:
    """Return the job of a stopped run at its last saved state; the default is the newest stopped run.

    The resumed run equals an uninterrupted one: it has the same batches, augmentation, rates and dropout. A run that saved no state
    starts again. `data` is the location of the images, if they have moved. `accept_versions` continues with other versions of the
    packages, which may give other numbers. The run belongs to this process until the training ends. Several `ranks`, whatever number
    trained before, continue together; rank 0 alone reads the run. Raises `ModelFileError` if the run is finished, damaged or trained by
    another process, `ConfigError` if versions or the device differ, `DataError` if its images are not found or have changed.
    """
    directory, taken = ranks.agreed(lambda: _take(run))
    with refused_faults():
        try:
            job = _prepare(directory, data, progress, accept_versions=accept_versions, ranks=ranks)
        except BaseException:
            if ranks.is_first:
                directory.release()
            raise
    job.notes = (*filter(None, [taken]), *job.notes)
    return job


def find_restarted(out: Path | None) -> RunDir | None:
    """Return the run of an earlier attempt of this launch, which torchrun or SLURM has restarted; None if it had made no run.

    `out` is the folder of the runs. The process that trained there has ended, also if another machine ran it, so its lock is removed.
    """
    if not launch_name():
        return None
    for path in runs_in(out or runs_folder()):
        run = RunDir(path)
        with suppress(ModelFileError):
            if run.read_record().launch == launch_name():
                if owner := read_owner(path):
                    remove_lock(path, owner)
                return run
    return None


def recorded_device(run: str | Path | None) -> str:
    """Return the device of a stopped run, by default of the newest: cpu, cuda or mps."""
    directory = run_at(find_run(run)) if run is not None else newest(finished=False)
    return directory.read_record().runtime.device


def _take(run: str | Path | None) -> tuple[RunDir, str]:
    """Return the run and make it the one of this process; with a note if it was that of a dead process."""
    directory = run_at(find_run(run)) if run is not None else newest(finished=False)
    _refuse_finished(directory)  # before the lock, so that a finished run does not change
    with refused_faults():
        return directory, directory.take()


def _refuse_finished(run: RunDir) -> None:
    """Raise `ModelFileError` if `run` is finished."""
    if run.read_record().status == "finished":
        raise ModelFileError(f"{run.path}: this run is finished; start a new run from its weights: cnnkit train --weights {run.best}")


def _prepare(directory: RunDir, data: str | None, progress: Progress | None, *, accept_versions: bool, ranks: Ranks) -> TrainingJob:
    """Return the job of `directory` with its saved state, and remove the history after that state."""

    def read() -> tuple[RunRecord, bool]:
        _refuse_finished(directory)  # another process may have finished it before the lock
        return directory.read_record(), not has_state(directory.last) and len(directory.read_history()) <= 1

    record, is_new = ranks.agreed(read)
    versions_note = check_versions(record, "" if accept_versions else f"cnnkit resume {shell_path(directory.path)}")
    job = prepare_recorded(directory, record, data, progress, fit_head=is_new, command="resume", ranks=ranks)
    job.command, job.earlier_notes, job.trial = record.command, record.notes, record.trial
    note = ranks.agreed(lambda: _restart(directory) if is_new else _load(directory, job))
    if not is_new:
        share_state(ranks, job.model, job.state)
    job.run = directory
    job.notes = (*filter(None, [versions_note, note]), *job.notes)
    return job


def _restart(directory: RunDir) -> str:
    """Remove the history of a run without a saved state; return a note."""
    directory.clear_history()
    return "no epoch was saved, so the training starts again from its beginning"


def _load(directory: RunDir, job: TrainingJob) -> str:
    """Load the saved state into `job` and remove the history after it; return a note if the newest state is damaged."""
    note = load_state(directory.last, job.model, job.state)
    directory.trim_history(job.state.ended, job.state.result and HistoryRow.model_validate(job.state.result))
    if job.state.stopping.has_best:
        read_header(directory.best)  # a damaged model cannot be made again, so its owner must know before hours of training
    return note


def prepare_recorded(
    run: RunDir, record: RunRecord, data: str | None, progress: Progress | None, *, fit_head: bool, command: str, ranks: Ranks = ONE
) -> TrainingJob:
    """Return a new job with the settings, the images, the names, the device and the arithmetic of `run`, of which `record` tells.

    `data` is the location of the images, if they have moved; a message on lost images names the `command` with its ``--data``. Raises
    `DataError` for a recorded address that the user has not named.
    """
    _check_device(run, record)
    if data is None:
        ranks.agreed(lambda: check_named(record.data.location, run.path))
    runtime = Runtime.from_facts(record.runtime.model_dump(), "as recorded")
    try:
        with _split_file(run, ranks) as split_file:
            config = recorded_config(run, record, data, split_file)
            job = prepare(config, progress=progress, runtime=runtime, fit_head=fit_head, ranks=ranks)
    except DataError as error:
        if data is None and Path(record.data.location).is_absolute() and not Path(record.data.location).exists():
            raise DataError(f"{error}; if the images have moved, name their folder: cnnkit {command} {run.path} --data FOLDER") from None
        raise
    if ranks.is_first:  # whose images are those of all ranks, as `prepare` has checked
        _check_same_data(run, job)
    _keep_names(job, record)
    return job


@contextmanager
def _split_file(run: RunDir, ranks: Ranks) -> Generator[Path]:
    """Yield the split.csv of `run`, which a rank above 0 gets from rank 0 as a temporary file: its machine may not have the run."""
    content = ranks.agreed(run.split_file.read_bytes) if ranks.several else b""
    if ranks.is_first:
        yield run.split_file
        return
    with TemporaryDirectory(prefix="cnnkit-split-") as folder:
        file = Path(folder) / run.split_file.name
        file.write_bytes(content)
        yield file


def _check_device(run: RunDir, record: RunRecord) -> None:
    """Raise `ConfigError` if this machine lacks the device of `run`."""
    usable = [name for name, is_usable in usable_devices().items() if is_usable]
    if record.runtime.device not in usable:
        raise ConfigError(
            f"{run.path}: the run was trained on {record.runtime.device}, and torch finds only {', '.join(usable)} here; "
            "use a machine with that device, or start a new run: cnnkit train"
        )


def check_versions(record: RunRecord, command: str) -> str:
    """Return a note on the packages whose versions differ from those of `record`, or an empty text.

    Raises `ConfigError`, which ends with `command` and the flag that accepts, if a version differs before its second dot: such packages
    may compute other numbers. Python computes none, and an empty `command` accepts every version.
    """
    changed = changed_versions(record.versions)
    larger = [name for name, both in changed.items() if name != "python" and len({_release(version) for version in both}) > 1]
    shown = listed(f"{name} {old}, now {new}" for name, (old, new) in changed.items())
    if larger and command:
        raise ConfigError(
            f"the versions have changed since the run began: {shown}; the training may then end with other numbers; "
            f"install the recorded versions, or accept the others: {command} --accept-versions"
        )
    return f"the versions have changed since the run began: {shown}" if changed else ""


def _release(version: str) -> tuple[str, ...]:
    """Return the first two numbers of a version: ``2.7.1+cpu`` -> ``("2", "7")``."""
    return tuple(version.split("+", maxsplit=1)[0].split(".")[:2])


def run_at(path: Path) -> RunDir:
    """Return the run at `path`, which may be a file in its directory, such as best.safetensors."""
    return RunDir(path.parent if path.is_file() else path)


def recorded_config(run: RunDir, record: RunRecord, data: str | None = None, split_file: Path | None = None) -> TrainConfig:
    """Return the settings in the `record` of a run, with absolute paths of data and split file; `data` replaces the images' location."""
    config = record.config
    # The split.csv of the run holds the split, whatever --split-file, added images or a later method of splitting would say now.
    paths: dict[str, Any] = {"data": keep_passwords(data) if data else record.data.location, "split_file": split_file or run.split_file}
    return config.model_copy(update={"data": config.data.model_copy(update=paths)})


def _keep_names(job: TrainingJob, record: RunRecord) -> None:
    """Give the data and the split file of `job` the names of `record` again.

    So a folder that has moved changes neither the settings nor a byte of the model file. Only the location of the images changes.
    """
    job.location = job.config.data.data
    job.config = job.config.model_copy(update={"data": record.config.data})
    data = {**job.header.training["data"], "name": record.data.name}
    job.header = job.header.model_copy(update={"training": {**job.header.training, "data": data}})


def _check_same_data(run: RunDir, job: TrainingJob) -> None:
    """Raise `DataError` if an image, its label or its split has changed since the start of the run; the message names the images."""
    recorded = {row["path"]: [row[column] for column in SPLIT_COLUMNS] for row in run.read_split()}
    current = {row["path"]: [row[column] for column in SPLIT_COLUMNS] for row in split_rows(job.dataset.samples)}
    changed = [path for path in recorded.keys() | current.keys() if recorded.get(path) != current.get(path)]
    if changed:
        named = listed((f"{path} ({_change(recorded.get(path), current.get(path))})" for path in sorted(changed)), MAX_NAMED)
        have = verb(len(changed), "has", "have")
        raise DataError(
            f"{run.path}: {counted(len(changed))} of {job.config.data.data} {have} changed since the run began: {named}; "
            f"restore them, or start a new run: cnnkit train --data {shell_word(job.config.data.data)}"
        )


def _change(recorded: list[str] | None, current: list[str] | None) -> str:
    """Return the change of an image from its `recorded` to its `current` row of `SPLIT_COLUMNS`; None stands for no image."""
    if recorded is None or current is None:
        return "new" if recorded is None else "missing"
    rows = zip(SPLIT_COLUMNS, recorded, current, strict=True)
    return ", ".join("other content" if name == "sha256" else f"{name} {old}, now {new}" for name, old, new in rows if old != new)
