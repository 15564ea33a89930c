"""The run directory: one training, its files under fixed names, each written whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnkit.errors import ModelFileError
from cnnkit.files import check_writable, write_csv, write_json

HISTORY: tuple[str, ...] = (
    "epoch",
    "step",
    "lr",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "seconds",
    "images_per_second",
    "is_best",
)
_NUMBERED = re.compile(r"(\d{3,})-")


def runs_folder() -> Path:
    """Return the folder in which runs are made and looked for: ``$CNNKIT_RUNS`` or ``./runs``."""
    return Path(os.environ.get("CNNKIT_RUNS") or "runs")


@dataclass(frozen=True)
class RunDir:
    """Names of the files of one run; nothing is read before it is asked for."""

    path: Path

    @property
    def best(self) -> Path:
        """The model file of the best epoch."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """The folder of the state that `cnnkit resume` continues from."""
        return self.path / "last"

    @property
    def split_file(self) -> Path:
        """``path,label,split,sha256`` of every image used."""
        return self.path / "split.csv"

    @property
    def history(self) -> Path:
        """One row per epoch, columns `HISTORY`."""
        return self.path / "history.csv"

    def evaluation(self, split: str) -> Path:
        """The folder of the evaluation on `split`."""
        return self.path / "eval" / split

    @property
    def export(self) -> Path:
        """The folder of exported files."""
        return self.path / "export"

    def read_config(self) -> dict[str, Any]:
        """Return config.json; raises `ModelFileError` if this is no run directory."""
        config, problem = None, "no JSON object"
        try:
            config = json.loads((self.path / "config.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            problem = str(error)
        if not isinstance(config, dict):
            raise ModelFileError(f"{self.path}: not a run directory (config.json: {problem}); expected a folder that cnnkit train wrote")
        return config

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json."""
        write_json(self.path / "config.json", config)

    def read_history(self) -> list[dict[str, str]]:
        """Return the rows of history.csv as text; empty before the first epoch has ended."""
        if not self.history.is_file():
            return []
        with self.history.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def read_split(self) -> list[dict[str, str]]:
        """Return the rows of split.csv; raises `ModelFileError` if it cannot be read."""
        try:
            with self.split_file.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                return list(csv.DictReader(file))
        except OSError as error:
            raise ModelFileError(f"{self.split_file}: cannot be read: {error.strerror or error}; name the images with --data") from None

    def count_opening(self, split: str) -> int:
        """Note that `split` is evaluated once more, in eval/opened.json, and return how often it has been."""
        file = self.path / "eval" / "opened.json"
        try:
            opened = dict(json.loads(file.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            opened = {}
        opened[split] = int(opened.get(split, 0)) + 1
        write_json(file, opened)
        return opened[split]

    def append_history(self, row: Mapping[str, object]) -> None:
        """Add one epoch to history.csv; `row` has the keys `HISTORY`."""
        new = not self.history.exists()
        with self.history.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, HISTORY)
            if new:
                writer.writeheader()
            writer.writerow(row)

    def trim_history(self, epochs: int) -> None:
        """Keep the first `epochs` rows of history.csv (a resumed run writes the others anew)."""
        rows = self.read_history()[:epochs]
        if rows:
            write_csv(self.history, HISTORY, rows)
        else:
            self.history.unlink(missing_ok=True)


def create(out: Path, arch: str) -> RunDir:
    """Make the next run directory ``NNN-arch`` under `out`; ``/`` in the name becomes ``-``.

    Raises `ConfigError` if `out` cannot be written.
    """
    check_writable(out)
    while True:
        path = out / f"{_highest(out) + 1:03d}-{arch.replace('/', '-')}"
        try:
            path.mkdir()
        except FileExistsError:  # another training took the number in between
            continue
        return RunDir(path)


def newest(*, finished: bool = True) -> RunDir:
    """Return the newest (finished) run under `runs_folder()`.

    Raises `ModelFileError` that says what to type when there is none.
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
    hint = (
        f"; {unfinished} was stopped early: name it with --model {unfinished}, or continue it: cnnkit resume {unfinished}"
        if unfinished
        else ""
    )
    raise ModelFileError(f"no finished run under {folder}{hint}; train one: cnnkit train --data FOLDER, or name a model: --model FILE")


def _status(run: RunDir) -> object:
    """The status of a run; None if its config.json is missing or damaged, so that one bad run hides no good one."""
    try:
        return run.read_config().get("status")
    except ModelFileError:
        return None


def runs_in(folder: Path) -> list[Path]:
    """Return the run directories of `folder`, newest first: by number, which order of creation gives."""
    if not folder.is_dir():
        return []
    numbered = [(int(match[1]), path) for path in folder.iterdir() if path.is_dir() and (match := _NUMBERED.match(path.name))]
    return [path for _, path in sorted(numbered, reverse=True)]


def _highest(folder: Path) -> int:
    runs = runs_in(folder)
    return int(runs[0].name.partition("-")[0]) if runs else 0
