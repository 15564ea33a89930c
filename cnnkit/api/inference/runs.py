"""List of the runs of a folder, each read from its own files; the row of a damaged run holds the problem. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from cnnkit.errors import ModelFileError
from cnnkit.metrics.proportion import Estimate, wilson
from cnnkit.model.facts import read_facts
from cnnkit.run_dir import RunDir, runs_folder, runs_in

DAMAGED, DEAD = "damaged", "dead"  # beside the statuses of a record: a file is damaged; the process of a running training has ended
MAX_TEMPERATURE = 1000  # of a table; a larger one is damage
ACCURACY_FIELDS = {"val": "val_accuracy", "test": "test_accuracy"}  # by the value of `--sort`, which may also be new or time


@dataclass(frozen=True)
class RunFacts:
    """The facts of one run; a value that was not measured is None, and `problem` says why a damaged run cannot be read.

    `status` is that of the record, or dead for a running training whose process has ended; `cnnkit resume` continues it.

    `best_value` is the value of `monitor` in `best_epoch`. `val_accuracy` belongs to the same epoch and `test_accuracy` to
    ``eval/test``, both in [0, 1] with 95 % intervals. An evaluation of a part of test, or of another file, gives no `test_accuracy`.
    `ece` comes from the evaluation on test, `temperature` from the model file. `seconds` is the time spent in training steps; `began`
    is in seconds since 1970.
    """

    path: Path
    status: str
    arch: str = ""
    data: str = ""
    recipe: str = ""
    epochs: int | None = None
    best_epoch: int | None = None
    monitor: str = ""
    best_value: float | None = None
    val_accuracy: Estimate | None = None
    test_accuracy: Estimate | None = None
    ece: float | None = None
    temperature: float | None = None
    seconds: float | None = None
    began: float | None = None
    problem: str = ""

    @property
    def number(self) -> int | None:
        """The number at the start of the folder's name; None if the run was renamed."""
        return RunDir(self.path).number

    def to_dict(self) -> dict[str, Any]:
        """Return the row of ``runs --json``."""
        kept = {name: value for name, value in vars(self).items() if name not in {"path", "val_accuracy", "test_accuracy"}}
        estimates = {name: value.to_dict() if (value := getattr(self, name)) else None for name in ("val_accuracy", "test_accuracy")}
        return {"run": str(self.path), "number": self.number, **kept, **estimates}


def list_runs(pattern: str = "*", folder: Path | None = None) -> list[RunFacts]:
    """Return the runs under `folder` (by default ``$CNNKIT_RUNS`` or ``./runs``), newest first.

    `pattern`, with ``*`` and ``?``, must match the whole name of the run, its architecture, its data or its recipe. Upper and lower
    case are equal.
    """
    found = [run_facts(RunDir(path)) for path in runs_in(folder or runs_folder())]
    return [row for row in found if any(fnmatch(text.lower(), pattern.lower()) for text in (row.path.name, row.arch, row.data, row.recipe))]


def sort_runs(rows: Sequence[RunFacts], by: str) -> list[RunFacts]:
    """Return `rows` sorted `by` accuracy (val, test: highest first) or training time (time: longest first), or as they are (new)."""
    if by == "time":
        return sorted(rows, key=lambda row: -(row.seconds or 0.0))
    if by not in ACCURACY_FIELDS:
        return list(rows)
    values = {row.path: getattr(row, ACCURACY_FIELDS[by]) for row in rows}
    return sorted(rows, key=lambda row: -values[row.path].value if values[row.path] else 1.0)


def run_facts(run: RunDir) -> RunFacts:
    """Return the facts of one run; the facts of a damaged run are its path and the problem."""
    try:
        return _facts(run)
    except ModelFileError as error:
        return RunFacts(run.path, DAMAGED, problem=str(error))


def _facts(run: RunDir) -> RunFacts:
    record, rows = run.read_training()
    result, test = record.result, run.read_whole_metrics("test", record.data.images.test)
    best = None if result.kept_epoch is None else run.best_row(rows, result.kept_epoch)
    header = (read_facts(run.best).header or {}) if run.best.is_file() else {}
    return RunFacts(
        path=run.path,
        status=DEAD if record.status == "running" and run.is_dead else record.status,
        arch=record.arch.name,
        data=record.config.data.data,
        recipe=record.config.recipe,
        epochs=(rows[-1].epoch if rows else 0) if record.status == "running" else result.epochs,
        best_epoch=result.kept_epoch,
        monitor=result.monitor,
        best_value=result.best_value,
        val_accuracy=_share(best.val_accuracy, (record.data.units or record.data.images).val)
        if best and best.val_accuracy is not None
        else None,
        test_accuracy=Estimate(test.accuracy.value, test.accuracy.low, test.accuracy.high) if test else None,
        ece=test.ece.value if test else None,
        temperature=_temperature(header.get("temperature")),
        seconds=sum(row.seconds for row in rows),
        began=run.began,
    )


def _temperature(value: object) -> float | None:
    return value if isinstance(value, int | float) and 0 < value < MAX_TEMPERATURE else None


def _share(value: float, n: int) -> Estimate:
    """Return a share with the interval of `n` independent images; with n units, that of units whose images are all alike."""
    found = wilson(value * n, n)
    return Estimate(value, found.low, found.high)
