"""Accuracy and cost of training and evaluating with the installed `cnnkit` over several seeds.

    python docs/benchmarks/main_job.py --seeds 3 -- --data digits
    python docs/benchmarks/main_job.py --seeds 3 -- --data cifar10 --recipe case-study --epochs 5

What stands after ``--`` goes to ``cnnkit train``. Prints one row of a Markdown table: accuracy on the evaluated split as mean
± standard deviation over the seeds, with wall and CPU seconds and peak memory of the training command, start-up and
reading of the images (from a warm cache after the first seed) included.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from document import add_option, row, save, spread, typed

COLUMNS = ("command", "accuracy", "wall s", "CPU s", "peak memory")


@dataclass(frozen=True)
class Measured:
    """One seed: accuracy in [0, 1], seconds, MiB."""

    split: str
    accuracy: float
    wall: float
    cpu: float
    memory: float


def measure(arguments: list[str], seed: int, out: Path) -> Measured:
    """Train and evaluate once."""
    cnnkit = str(Path(sys.executable).with_name("cnnkit"))
    started = time.perf_counter()
    command = [cnnkit, "train", *arguments, "--seed", str(seed), "--out", str(out), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    text = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {shlex.join(command)}")
    wall = time.perf_counter() - started
    evaluation = subprocess.run([cnnkit, "eval", "--model", json.loads(text)["run"], "--json"], check=True, capture_output=True, text=True)
    metrics = json.loads(evaluation.stdout)
    return Measured(metrics["split"], metrics["accuracy"]["value"], wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    add_option(parser)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="-- and the arguments of cnnkit train")
    given = parser.parse_args()
    arguments = [argument for argument in given.arguments if argument != "--"]
    with tempfile.TemporaryDirectory() as folder:
        runs = [measure(arguments, seed, Path(folder)) for seed in range(given.seeds)]
    accuracy = f"{runs[0].split} {spread([100 * run.accuracy for run in runs], 1)} %"
    wall, cpu = spread([run.wall for run in runs], 0), spread([run.cpu for run in runs], 0)
    memory = max(run.memory for run in runs) / 1024
    cells = (f"`cnnkit train {typed(arguments)}`", accuracy, wall, cpu, f"{memory:.1f} GiB")
    print(row(cells))
    claim = f"{cells[0]} reaches {accuracy}."
    save(given.json, "Main job", claim, COLUMNS, [cells], seeds=range(given.seeds))


if __name__ == "__main__":
    main()
