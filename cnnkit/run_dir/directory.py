"""The run directory: the files of one training under fixed names, each written whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cnnkit.errors import ModelFileError, shell_path
from cnnkit.files import check_writable, fingerprint, locked, read_checked, read_json, restored, start_manifest, write_json
from cnnkit.files.manifest import MANIFEST
from cnnkit.run_dir import owner
from cnnkit.run_dir.document import read_document
from cnnkit.run_dir.history import HistoryRow, append_history, read_history, write_history
from cnnkit.run_dir.record import RunRecord, SplitCounts, Status
from cnnkit.run_dir.stored_metrics import METRICS_FILE, StoredMetrics

SPLITS = tuple(SplitCounts.model_fields)
SPLIT_COLUMNS = ("path", "label", "split", "sha256")
MAX_OPENED = 10**9  # evaluations of a split; a larger count is damage
_NUMBERED = re.compile(r"(\d{3,})-")


def runs_folder() -> Path:
    """Return the folder of the runs: ``$CNNKIT_RUNS`` or ``./runs``."""
    return Path(os.environ.get("CNNKIT_RUNS") or "runs")


@dataclass(frozen=True)
class RunDir:
    """The file names of one run; each file is read only on request."""

    path: Path

    @property
    def name(self) -> str:
        """The name of the folder, also if `path` is ``.`` or a symbolic link to it."""
        return self.path.resolve().name

    @property
    def number(self) -> int | None:
        """The number at the start of the folder's name; None if the run was renamed."""
        found = _NUMBERED.match(self.path.absolute().name)
        return int(found[1]) if found else None

    @property
    def began(self) -> float | None:
        """The start of the training, in seconds since 1970; None if split.csv is missing, which is written only at the start."""
        try:
            return self.split_file.stat().st_mtime
        except OSError:
            return None

    @property
    def record_file(self) -> Path:
        """config.json, the record of the run."""
        return self.path / "config.json"

    @property
    def best(self) -> Path:
        """The model file of the best epoch."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """The folder of the state from which `cnnkit resume` continues."""
        return self.path / "last"

    @property
    def split_file(self) -> Path:
        """split.csv, with ``path,label,split,sha256,unit`` of every image used."""
        return self.path / "split.csv"

    @property
    def history(self) -> Path:
        """history.csv, with one row per epoch."""
        return self.path / "history.csv"

    def evaluation(self, split: str) -> Path:
        """Return the folder of the evaluation on `split`."""
        return self.path / "eval" / split

    @property
    def export(self) -> Path:
        """The folder of exported files."""
        return self.path / "export"

    @property
    def is_run(self) -> bool:
        """True if the folder holds config.json or best.safetensors, whatever its name is."""
        with suppress(OSError):  # a folder without read permission
            return self.record_file.is_file() or self.best.is_file()
        return False

    def read_record(self) -> RunRecord:
        """Return config.json; raises `ModelFileError` if this is no run directory or the file is damaged."""
        if not self.is_run:
            raise ModelFileError(f"{self.path}: not a run directory (it has no config.json); expected a folder that cnnkit train wrote")
        alone = f"; to predict without it: cnnkit predict --model {shell_path(self.best)}"
        other_way = alone if self.best.is_file() else ", or train again"
        return read_document(self.record_file, RunRecord, f"restore the file from a copy{other_way}")

    def write_record(self, record: RunRecord) -> None:
        """Write config.json."""
        write_json(self.record_file, record.model_dump(mode="json"))

    def read_history(self) -> list[HistoryRow]:
        """Return the finished epochs; raise `ModelFileError` that names row and column if a row is damaged."""
        return read_history(self.history, self._history_remedy)

    def read_training(self) -> tuple[RunRecord, list[HistoryRow]]:
        """Return config.json and history.csv; raise `ModelFileError` if one is damaged or the row of the best epoch is missing."""
        record, rows = self.read_record(), self.read_history()
        if record.result.kept_epoch is not None:
            self.best_row(rows, record.result.kept_epoch)
        return record, rows

    def best_row(self, rows: Sequence[HistoryRow], epoch: int) -> HistoryRow:
        """Return the row of the best `epoch` among the `rows` of this run.

        Raises `ModelFileError` if the file ends before that row, or if the row has no validation metrics: each best epoch has them.
        """
        index = epoch - rows[0].epoch if rows else epoch - 1
        if not 0 <= index < len(rows):
            raise ModelFileError(f"{self.history}: row {index + 1}, the best epoch, is missing; {self._history_remedy}")
        row = rows[index]
        if empty := [name for name in ("val_loss", "val_accuracy") if getattr(row, name) is None]:
            raise ModelFileError(f"{self.history}: row {index + 1}, the best epoch, has an empty column {empty[0]}; {self._history_remedy}")
        return row

    def append_history(self, row: HistoryRow) -> None:
        """Add one epoch to history.csv."""
        append_history(self.history, row)

    def trim_history(self, epoch: int, latest: HistoryRow | None = None) -> None:
        """Keep the rows of history.csv up to `epoch`; a resumed run repeats the later epochs.

        `latest` is the row of `epoch`, which is added if the training ended before it was written. Raises `ModelFileError` if one of
        these rows is damaged or missing. The last row may be cut off if the training was killed.
        """
        rows = read_history(self.history, self._history_remedy, epoch)
        wanted = epoch + 1 - (rows[0].epoch if rows else latest.epoch if latest and latest.epoch == 0 else 1)
        if len(rows) == wanted - 1 and latest is not None and latest.epoch == epoch:
            rows = [*rows, latest]
        if len(rows) < wanted:
            raise ModelFileError(
                f"{self.history}: the file has {len(rows)} of the {wanted} rows that the training wrote; {self._history_remedy}"
            )
        write_history(self.history, rows)

    def clear_history(self) -> None:
        """Remove history.csv."""
        write_history(self.history, [])

    @property
    def _history_remedy(self) -> str:
        repair = f"cnnkit resume {shell_path(self.path)}"
        return f"restore the file from a copy; if only the last row is cut off, this command repairs it: {repair}"

    def read_metrics(self, folder: Path) -> StoredMetrics | None:
        """Return metrics.json in the `folder` of an evaluation of this run; None if the file does not exist.

        Raises `ModelFileError` if the file is damaged.
        """
        file = folder / METRICS_FILE
        if not file.exists():
            return None
        return read_document(file, StoredMetrics, f"evaluate the model again: {self._evaluation_command(folder)}")

    def _evaluation_command(self, folder: Path) -> str:
        """Return the command that evaluates into `folder`; folders of other data and of some classes do not tell their flags."""
        split, _, rest = folder.name.partition("-")
        if folder != self.evaluation(folder.name) or split not in SPLITS:
            return f"cnnkit eval --model {self.path}"
        if rest in {"", "tta"}:
            return f"cnnkit eval --model {self.path} --split {split}{' --tta' if rest else ''}"
        file = self.export / rest
        return f"cnnkit eval --model {file} --split {split}" if file.is_file() else f"cnnkit eval --model {self.path}"

    def read_whole_metrics(self, split: str, images: int) -> StoredMetrics | None:
        """Return the metrics of best.safetensors on all `images` of `split`; None without such an evaluation of the present file.

        An evaluation of some classes, of other data or of another file is not used, whichever version wrote it.
        """
        folder = self.evaluation(split)
        metrics = self.read_metrics(folder)
        if metrics is None or not metrics.is_whole(images) or metrics.model.file != self.best.name:
            return None
        with suppress(OSError):  # without the model file its evaluation remains true
            is_newer = self.best.stat().st_mtime > (folder / METRICS_FILE).stat().st_mtime
            if is_newer and fingerprint(self.best) != metrics.model.sha256:  # reading all models would take long
                return None
        return metrics

    def read_split(self, classes: Collection[str] | None = None) -> list[dict[str, str]]:
        """Return the rows of split.csv, each with all of `SPLIT_COLUMNS`.

        Raises `ModelFileError` if the file cannot be read, if a row ends early, or if a split or a label is unknown. The labels are
        checked only if `classes` are given.
        """
        try:
            stored = read_checked(self.split_file, "restore the file from a copy, or name the images with --data")
            text = restored(stored.decode("utf-8", "surrogateescape"))
            reader = csv.DictReader(io.StringIO(text, newline=""))
            rows, columns = list(reader), list(reader.fieldnames or ())
        except (OSError, csv.Error) as error:
            reason = (isinstance(error, OSError) and error.strerror) or error
            raise ModelFileError(f"{self.split_file}: cannot be read: {reason}; name the images with --data") from None
        remedy = "restore the file from a copy, or name the images with --data"
        if missing := [column for column in SPLIT_COLUMNS if column not in columns]:
            raise ModelFileError(f"{self.split_file}: no column {missing[0]} in its first line; {remedy}")
        last, known = max(SPLIT_COLUMNS, key=columns.index), None if classes is None else set(classes)
        for number, row in enumerate(rows, 1):
            if row[last] is None:
                raise ModelFileError(f"{self.split_file}: row {number} ends before its column {last}; {remedy}")
            if row["split"] not in SPLITS:
                named = f"row {number}, column split (={row['split']!a})"
                raise ModelFileError(f"{self.split_file}: {named} must be {', '.join(SPLITS)}; {remedy}")
            if known is not None and row["label"] not in known:
                named = f"row {number}, column label (={row['label']!a})"
                raise ModelFileError(f"{self.split_file}: {named} is no class of config.json; {remedy}")
        return rows

    def count_opening(self, split: str) -> int:
        """Count one more evaluation of `split` in eval/opened.json and return their number; evaluations at the same time count too."""
        file = self.path / "eval" / "opened.json"
        file.parent.mkdir(exist_ok=True)
        with locked(file.parent):
            try:
                opened = {
                    str(name): count for name, count in dict(read_json(file)).items() if isinstance(count, int) and 0 <= count < MAX_OPENED
                }
            except (OSError, ValueError, TypeError):
                opened = {}
            opened[split] = opened.get(split, 0) + 1
            write_json(file, opened)
        return opened[split]

    def take(self) -> str:
        """Make this process the only one that trains in the run; return a note if it takes over the lock of a dead process.

        The temporary files of a dead process are removed. Raises `ModelFileError` if another process owns the run.
        """
        note = owner.take(self.path)
        start_manifest(self.path)  # for a run of an older version
        return note

    @contextmanager
    def owned(self) -> Generator[None]:
        """Take the run for the body, which changes its model."""
        self.take()
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Let other processes train in the run."""
        owner.release(self.path)

    def check_free(self, remedy: str = "") -> None:
        """Raise `ModelFileError`, with another `remedy`, if a training of another process runs here."""
        try:
            owner.check_free(self.path)
        except ModelFileError as error:
            raise ModelFileError(f"{error}{remedy}") from None

    @property
    def is_dead(self) -> bool:
        """True if the process that trained in the run has certainly ended; runs of older versions have no lock and do not tell."""
        with suppress(ModelFileError):
            found = owner.read_owner(self.path)
            return found.is_dead if found else (self.path / MANIFEST).exists()
        return False


def create(out: Path, arch: str) -> RunDir:
    """Make the next run directory ``NNN-arch`` under `out`; ``/`` and ``:`` in the name of the architecture become ``-``.

    Raises `ConfigError` if `out` cannot be written.
    """
    check_writable(out)
    while True:
        path = out / f"{_highest(out) + 1:03d}-{arch.replace('/', '-').replace(':', '-')}"
        try:
            path.mkdir()
        except FileExistsError:  # another training has just taken the number
            continue
        start_manifest(path)
        return RunDir(path)


def find_run(given: str | Path) -> Path:
    """Return the path of a run that the user names: `given`, or the run of that name under `runs_folder()`.

    A file or run directory `given` wins over a run of that name. Without either the result is `given`.
    """
    path, named = Path(given), runs_folder() / given
    return named if not path.is_file() and not RunDir(path).is_run and RunDir(named).is_run else path


def newest(*, finished: bool = True) -> RunDir:
    """Return the newest run under `runs_folder()`; `finished` restricts the search to finished runs.

    Raises `ModelFileError`, with the command to type, if there is none.
    """
    folder = runs_folder()
    unfinished = None
    for path in runs_in(folder):
        run = RunDir(path)
        status = _status(run)
        if status == "finished" or (not finished and status is not None):
            return run
        if run.best.is_file():
            unfinished = unfinished or path
    hint = ""
    if unfinished:
        word = shell_path(unfinished)
        hint = f"; {unfinished} has not finished: name it with --model {word}, or continue it: cnnkit resume {word}"
    raise ModelFileError(f"no finished run under {folder}{hint}; train one: cnnkit train --data FOLDER, or name a model: --model FILE")


def _status(run: RunDir) -> Status | None:
    """Return the status of a run; None if its config.json is missing or damaged, so that a bad run does not stop the search."""
    try:
        return run.read_record().status
    except ModelFileError:
        return None


def runs_in(folder: Path) -> list[Path]:
    """Return the run directories of `folder`, newest first.

    Numbered runs come first, by their numbers, which are in the order of creation. Renamed runs follow, by the start of their training.
    A link to a numbered run is left out.
    """
    if not folder.is_dir():
        return []
    runs = [run for path in folder.iterdir() if (run := RunDir(path)).is_run]
    numbered = sorted((run.number, run.path) for run in runs if run.number is not None)[::-1]
    targets = {path.resolve() for _, path in numbered}
    renamed = sorted((run.began or 0.0, run.path) for run in runs if run.number is None and run.path.resolve() not in targets)[::-1]
    return [path for _, path in (*numbered, *renamed)]


def _highest(folder: Path) -> int:
    """Return the highest number among all numbered folders, runs or not; 0 if there is none."""
    return max((RunDir(path).number or 0 for path in folder.iterdir() if path.is_dir()), default=0)
