"""Run a trainer as any user would, and watch it from outside: seconds, CPU-seconds and memory of all its processes, accuracy by epoch."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cnnkit.speed.stopwatch import machine_seconds

INTERVAL = 0.5  # seconds between two looks; a look takes 5 to 20 ms of this process, none of the trainer's


class TrainerError(Exception):
    """A trainer failed or went on far too long; the message names its log."""


@dataclass(frozen=True)
class Row:
    """An epoch that ended: seconds and CPU-seconds since the command began, accuracy on val in [0, 1] if it was evaluated."""

    wall: float
    cpu: float
    accuracy: float | None


@dataclass
class Watched:
    """What was seen; `began` is when the first epoch began, in seconds since the command did; `memory` is peak PSS in bytes.

    `others` are the CPU-seconds that all other processes of the machine took meanwhile: on a quiet machine next to none.
    """

    wall: float = 0.0
    cpu: float = 0.0
    others: float = 0.0
    memory: int = 0
    began: float = 0.0
    history: list[Row] = field(default_factory=list[Row])

    @property
    def trained(self) -> float:
        """Seconds from the beginning of the first epoch to the end of the last, its evaluation included."""
        return self.history[-1].wall - self.began if self.history else 0.0


@dataclass(frozen=True)
class Signs:
    """By what a trainer shows how far it is.

    `begins` stands in its log when the first epoch begins; `size` finds the number of parameters there; `history` is a
    pattern of the CSV file, under the run's folder, that gets a row per epoch; `column` is that of accuracy on val, times `scale`.
    """

    begins: str
    history: str
    column: str
    scale: float = 1.0
    size: str = r"([\d,]+) parameters"

    def parameters(self, log: Path) -> int | None:
        """Return how many parameters the log says the network has."""
        found = re.search(self.size, log.read_text("utf-8", errors="replace"), re.DOTALL)
        return int(found[1].replace(",", "")) if found else None

    def accuracies(self, folder: Path) -> list[float | None]:
        """Return what has been written so far; None for an epoch whose cell is empty."""
        for file in folder.glob(self.history):
            with file.open(newline="", encoding="utf-8") as lines:
                rows = [{name.strip(): value for name, value in row.items() if name} for row in csv.DictReader(lines)]
            with suppress(KeyError, TypeError, ValueError):  # a line that is being written
                return [self.scale * float(row[self.column]) if row[self.column] != "" else None for row in rows]
        return []


def watch(
    command: Sequence[str],
    folder: Path,
    *,
    log: str,
    environment: Mapping[str, str],
    limit: float,
    signs: Signs | None = None,
    enough: Callable[[Watched], bool] = lambda _: False,
) -> Watched:
    """Run `command` with its output in the file `log` of `folder`; ended early when `enough` has been seen.

    Raises `TrainerError` if it fails or takes more than `limit` seconds.
    """
    seen, path = Watched(), folder / log
    with path.open("wb") as output:
        started, busy = time.perf_counter(), machine_seconds()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=dict(environment), start_new_session=True)
    try:
        while True:
            time.sleep(INTERVAL)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            seen.wall = time.perf_counter() - started
            if not ended:
                _look(process.pid, seen)
            if signs:
                _read(signs, folder, path, seen)
            if ended:
                process.returncode = os.waitstatus_to_exitcode(status)
                seen.cpu = usage.ru_utime + usage.ru_stime
                seen.others = max(0.0, machine_seconds() - busy - seen.cpu)
                break
            if enough(seen):
                return seen
            if seen.wall > limit:
                raise TrainerError(f"not done after {limit:.0f} s: {path}")
    finally:
        _end(process)
    if process.returncode:
        raise TrainerError(f"exit code {process.returncode}: {path}")
    return seen


def _look(pid: int, seen: Watched) -> None:
    """Add up the CPU-seconds and the memory of a process and all under it; memory that they share counts once."""
    cpu, memory = 0.0, 0
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # one that has ended since it was listed
                times = process.cpu_times()
                cpu += times.user + times.system + times.children_user + times.children_system  # children: those that have ended
                memory += process.memory_full_info().pss
    seen.cpu, seen.memory = max(seen.cpu, cpu), max(seen.memory, memory)


def _read(signs: Signs, folder: Path, log: Path, seen: Watched) -> None:
    if not seen.began and signs.begins in log.read_text("utf-8", errors="replace"):
        seen.began = seen.wall
    for accuracy in signs.accuracies(folder)[len(seen.history) :]:
        seen.history.append(Row(seen.wall, seen.cpu, accuracy))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the trainer and the processes it started, if it is still running."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
