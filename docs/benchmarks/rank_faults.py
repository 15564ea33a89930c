"""Ends of trainings on several ranks in which a rank is killed, stops, is interrupted or meets a fault.

    python docs/benchmarks/rank_faults.py [--kills 20] [--only TEXT]

Each case trains a small network on 240 small images by ``cnnkit train --devices cpu:N``. A fault comes at a random moment of one
rank, by `faults/sitecustomize.py`. The row says how long all processes took to end, the exit code, and the line of stderr that names
the cause. Then every file of the run must have the SHA-256 of the manifest, and ``cnnkit resume`` on 1, 2 or 4 ranks, or the same
command where no run was made yet, must end with every epoch once in history.csv. It needs Linux.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from document import HERE, Table, add_option, save
from PIL import Image

from cnnkit.errors import DamagedFileError
from cnnkit.files import check_file

EPOCHS = 6
LIMIT = 180.0  # seconds for a command, or after the fault
MAX_SECONDS = 60.0  # from the fault to the end of all processes
MARKER = "RANK_FAULT_CASE"  # a variable that all processes of a case have
FLAGS = ("--epochs", EPOCHS, "--patience", 0, "--batch-size", 24, "--image-size", 16, "--set", "width=4", "--set", "blocks=2")
# The moments at which a rank dies: module, function, the highest number of its call, seconds after the call. The second line is that of
# ranks above 0, where they do something else then.
MOMENTS = {
    "start": [("cnnkit.engine.joining", "join", 1, 1.0)],
    "scan": [("cnnkit.engine.ranks", "Ranks.machine_first", 1, 1.5)],
    "probe": [("cnnkit.api.training.prepare", "_agreed_arithmetic", 1, 0.5)],
    "epoch": [("cnnkit.engine.step", "Step.update", 40, 0.02)],
    "sum": [("cnnkit.engine.ranks", "Ranks.sum", 80, 0.0)],
    "validation": [("cnnkit.engine.validation", "validate", EPOCHS, 0.0)],
    "save": [("cnnkit.files.whole", "flush", 20, 0.0), ("cnnkit.engine.ranks", "SharedClock.tick", 2 * EPOCHS, 0.0)],
    "end": [("cnnkit.api.training.job", "TrainingJob._end", 1, 0.1), ("cnnkit.engine.joining", "leave", 1, 0.0)],
}


@dataclass(frozen=True)
class Case:
    """A fault in `rank` of `world`; `resumed` ranks continue."""

    name: str
    world: int
    rank: int
    action: str
    moment: tuple[str, str, int, float]
    resumed: int
    code: int = 3
    cause: str = ""  # text that stderr must hold
    launcher: tuple[str, ...] = ()  # signals to the launcher after the fault


@dataclass(frozen=True)
class Ended:
    """A command that has ended: exit code, stderr, and seconds from the fault to the end of its last process."""

    code: int
    err: str
    seconds: float


def kills(number: int) -> list[Case]:
    """Return `number` cases of SIGKILL, each moment in turn, with 2 or 4 ranks, of which rank 0 is the one in every other case."""
    dice, found = random.Random(0), list[Case]()
    for index in range(number):
        name = [*MOMENTS][index % len(MOMENTS)]
        world = dice.choice((2, 4))
        rank = dice.randrange(1, world) if index // len(MOMENTS) % 2 == index % 2 else 0
        module, function, calls, seconds = MOMENTS[name][-1 if rank else 0]
        moment = (module, function, dice.randint(1, calls), dice.uniform(0, seconds))
        found.append(Case(f"killed: {name}", world, rank, "SIGKILL", moment, (1, 2, 4)[index % 3], cause=f"rank {rank}"))
    return found


def other_faults() -> list[Case]:
    """Return the other faults."""
    step, save_file = ("cnnkit.engine.step", "Step.update", 30, 0.0), ("cnnkit.files.whole", "flush", 12, 0.0)
    return [
        Case("NaN", 2, 1, "NaN", ("cnnkit.engine.step", "Step._backward", 30, 0.0), 1, cause="the loss became nan"),
        Case("disk full", 2, 0, "ENOSPC", save_file, 2, cause="No space left on device"),
        Case("disk full, 4 ranks", 4, 0, "ENOSPC", ("cnnkit.files.whole", "flush", 20, 0.0), 4, cause="No space left on device"),
        Case("SIGTERM to a rank", 2, 1, "SIGTERM", step, 2, 143, "cnnkit resume"),
        Case("SIGHUP to a rank", 2, 1, "SIGHUP", step, 2, 129, "cnnkit resume"),
        Case("SIGINT to rank 0", 2, 0, "SIGINT", step, 2, 130, "cnnkit resume"),
        Case("SIGTERM at the start", 2, 1, "SIGTERM", ("cnnkit.engine.ranks", "Ranks.machine_first", 1, 0.2), 2, 143),
        Case("SIGTERM to the launcher", 2, 0, "", step, 2, 143, "cnnkit resume", ("SIGTERM",)),
        Case("SIGHUP to the launcher", 2, 0, "", step, 2, 129, "cnnkit resume", ("SIGHUP",)),
        Case("two Ctrl-C", 2, 0, "", step, 2, 130, "", ("SIGINT", "SIGINT")),
        Case("SIGKILL to the launcher", 2, 0, "", step, 2, -9, "", ("SIGKILL",)),
        Case("stopped, then Ctrl-C", 2, 1, "SIGSTOP", step, 1, 130, "", ("SIGINT",)),
        Case("stopped, then two Ctrl-C", 2, 1, "SIGSTOP", step, 1, 130, "", ("SIGINT", "SIGINT")),
    ]


def make_images(folder: Path) -> None:
    """Write three classes of 80 small images."""
    dice = np.random.default_rng(0)
    for label in range(3):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(80):
            pixels = dice.integers(0, 200, (24, 24, 3)) + np.eye(3, dtype=int)[label] * 55
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"class{label}" / f"{number}.png")


def run(words: Sequence[object], case: str, fault: dict[str, Any] | None = None, launcher: Sequence[str] = ()) -> Ended:
    """Run a command of cnnkit until all its processes have ended; after the `fault` send the signals to the `launcher`."""
    world = {**os.environ, MARKER: case, "CNNKIT_CACHE": "cache", "OMP_NUM_THREADS": "1"}
    if fault:
        world |= {"RANK_FAULT": json.dumps(fault), "PYTHONPATH": f"{HERE / 'faults'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    with Path("stderr").open("w") as err:
        command = [sys.executable, "-m", "cnnkit", *map(str, words)]
        process = subprocess.Popen(command, env=world, stdout=subprocess.DEVNULL, stderr=err, start_new_session=True)
    began, sent = time.time(), False
    while members(case) and time.time() - began < LIMIT:
        process.poll()
        if fault and not sent and Path(fault["mark"]).exists():
            began, sent = time.time(), True
            for name in launcher:
                process.send_signal(signal.Signals[name])
                time.sleep(0.3)
        time.sleep(0.05)
    seconds = time.time() - (float(mark.read_text("ascii")) if fault and (mark := Path(fault["mark"])).exists() else began)
    for member in members(case):
        print(f"still there: {member.pid} {' '.join(member.cmdline())[:200]}", file=sys.stderr)
        member.kill()
    return Ended(process.wait(), Path("stderr").read_text("utf-8"), seconds)


def members(case: str) -> list[psutil.Process]:
    """Return the processes of a case that still run."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARKER) == case:
                found.append(process)
        except psutil.Error:
            continue
    return found


def damaged() -> list[str]:
    """Return the names of the files of the run whose content the manifest does not know."""
    found: list[str] = []
    for path in (path for path in Path("runs").glob("*/**/*") if path.is_file()):
        try:
            check_file(path)
        except DamagedFileError:
            found.append(path.name)
    return found


def examine(case: Case, base: Path) -> tuple[str, ...]:
    """Run a case in the folder `base`; return the cells of its row, of which the last one is empty if all is well."""
    base.mkdir()
    os.chdir(base)
    module, function, call, delay = case.moment
    fault = {"rank": case.rank, "module": module, "function": function, "call": call, "delay": delay, "action": case.action}
    train = ("train", "--data", base.parent / "images", *FLAGS, "--devices", f"cpu:{case.world}")
    ended = run(train, base.name, {**fault, "mark": str(base / "mark")}, case.launcher)
    said = " ".join(ended.err.split())
    problems = [] if (base / "mark").exists() else ["the fault did not come"]
    problems += [] if ended.code == case.code else [f"exit code {ended.code}"]
    problems += [] if ended.seconds <= MAX_SECONDS else [f"{ended.seconds:.0f} s to the end"]
    problems += [] if case.cause in said else [f"stderr lacks {case.cause!r}"]
    problems += ["a traceback"] if "Traceback" in ended.err else []
    problems += [f"damaged: {names}"] if (names := damaged()) else []
    problems += _continued(case, train, base.name)
    (base / "stderr-of-the-fault").write_text(ended.err)
    return case.name, f"{case.rank} of {case.world}", f"{ended.seconds:.1f}", str(ended.code), str(case.resumed), "; ".join(problems) or "-"


def _continued(case: Case, train: Sequence[object], name: str) -> list[str]:
    """Continue the run of a case; return the problems."""
    run_folder = Path("runs/001-custom-cnn")
    record = run_folder / "config.json"
    finished = record.exists() and json.loads(record.read_text("utf-8"))["status"] == "finished"
    if not finished:
        devices = ("--devices", f"cpu:{case.resumed}") if case.resumed > 1 else ()
        words = ("resume", run_folder, *devices) if record.exists() else (*train[:-2], *devices)
        again = run(words, name)
        if again.code:
            return [f"resume: exit code {again.code}: {again.err[-300:]}"]
    rows = [*csv.DictReader((run_folder / "history.csv").read_text("utf-8").splitlines())]
    problems = [] if [int(row["epoch"]) for row in rows] == [*range(1, EPOCHS + 1)] else ["the epochs of history.csv"]
    problems += [f"left: {[*map(str, parts)]}"] if (parts := [*run_folder.rglob("*.part"), *run_folder.glob("lock.json")]) else []
    return problems + ([f"damaged: {names}"] if (names := damaged()) else [])


def main() -> None:
    """Run all cases and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="number of SIGKILLs at random moments")
    parser.add_argument("--only", default="", metavar="TEXT", help="the cases whose name holds TEXT")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="folder that keeps the runs and what stderr held")
    add_option(parser)
    given = parser.parse_args()
    home, target = Path.cwd(), given.json.resolve() if given.json else None
    cases = [case for case in (*kills(given.kills), *other_faults()) if given.only in case.name]
    table = Table("fault", "rank", "s to the end of all", "exit code", "resumed on", "problems")
    with tempfile.TemporaryDirectory() as folder:
        base = (given.keep or Path(folder)).resolve()
        make_images(base / "images")
        for number, case in enumerate(cases):
            table.add(*examine(case, base / f"{number:02d}-{case.name.replace(' ', '-').replace(':', '')}"))
        os.chdir(home)
    good = sum(row[-1] == "-" for row in table.rows)
    ends = f"end within {MAX_SECONDS:.0f} s with the right exit code"
    claim = f"After a fault of a rank, {good} of {len(cases)} trainings {ends}, and a resume completes them."
    save(target, "Faults of ranks", claim, table.columns, table.rows)


if __name__ == "__main__":
    main()
