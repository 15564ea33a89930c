"""Cost of an evaluation beside a prediction of the same images, and its memory per image.

    python docs/benchmarks/evaluation.py RUN [--rounds 3]

RUN is the run directory of a training on a folder of images; it is copied first and stays as it is. By turns, each in a process of its own:

- ``cnnkit predict`` of the files of its test split, with all probabilities, to a CSV;
- ``cnnkit eval`` of that split, with all probabilities, from the store that the training left in the cache;
- the same with an empty cache, so that the images are decoded.

Printed are wall and CPU seconds (of all processes, looked at ten times a second), the peak of the proportional set size of all
processes, and the ratio of each to ``predict`` in the same round: the median, and the least and the most. Then the train split is
evaluated as well, and what the peak has grown by is divided by the images that it has more.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from document import Table, add_option, save
from memory import EVERY, look  # the script beside this one


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes of one command."""

    wall: float
    cpu: float
    memory: float


def measure(command: list[str], store: str | None = None) -> Cost:
    """Run ``cnnkit`` with the arguments `command` once; `store` is the cache to use, by default the user's."""
    environment = {**os.environ, "CNNKIT_CACHE": store} if store else dict(os.environ)
    started, peak, cpu = time.perf_counter(), 0.0, dict[int, float]()
    process = psutil.Popen([sys.executable, "-m", "cnnkit", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    while process.poll() is None:
        try:
            peak = max(peak, look(process).whole)
            for one in [process, *process.children(recursive=True)]:
                cpu[one.pid] = sum(one.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
        time.sleep(EVERY)
    if process.returncode:
        sys.exit(f"cnnkit {command[0]} failed:\n{process.stderr.read().decode()}")
    return Cost(time.perf_counter() - started, sum(cpu.values()), peak)


def compare(run: Path, rounds: int, folder: Path) -> dict[str, list[Cost]]:
    """Measure the three commands by turns."""
    source = Path(json.loads((run / "config.json").read_text("utf-8"))["data"]["location"])
    with (run / "split.csv").open(newline="", encoding="utf-8") as file:
        files = [str(source / row["path"]) for row in csv.DictReader(file) if row["split"] == "test"]
    print(f"{len(files):,} images", flush=True)
    evaluate = ["eval", "--model", str(run), "--split", "test", "--probabilities", "--out", str(folder / "eval")]
    costs: dict[str, list[Cost]] = {"predict": [], "eval": [], "eval, empty cache": []}
    measure(evaluate)  # the store is warm, and so are the files of the libraries
    for _ in range(rounds):
        costs["predict"].append(measure(["predict", *files, "--model", str(run), "--probabilities", "--out", str(folder / "x.csv")]))
        costs["eval"].append(measure(evaluate))
        with tempfile.TemporaryDirectory() as empty:
            costs["eval, empty cache"].append(measure(evaluate, empty))
    return costs


def ratios(costs: list[Cost], against: list[Cost], what: str) -> str:
    """The ratio round by round: median (least to most)."""
    values = [getattr(mine, what) / getattr(other, what) for mine, other in zip(costs, against, strict=True)]
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    add_option(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = Path(shutil.copytree(given.run, folder / given.run.name, ignore=shutil.ignore_patterns("eval", "export")))
        costs = compare(run, given.rounds, folder)
        table = Table("command", "wall s", "CPU s", "peak PSS", "wall, to predict", "CPU, to predict")
        for command, found in costs.items():
            wall, cpu, memory = (statistics.median(getattr(one, what) for one in found) for what in ("wall", "cpu", "memory"))
            against = (ratios(found, costs["predict"], what) for what in ("wall", "cpu"))
            table.add(f"`cnnkit {command}`", f"{wall:.1f}", f"{cpu:.1f}", f"{memory / 1e9:.2f} GB", *against)
        peaks = {
            split: measure(["eval", "--model", str(run), "--split", split, "--out", str(folder / split)]) for split in ("test", "train")
        }
        sizes = {split: json.loads((folder / split / "metrics.json").read_text("utf-8"))["n"] for split in peaks}
        growth = (peaks["train"].memory - peaks["test"].memory) / (sizes["train"] - sizes["test"])
        grown = (
            f"peak of {sizes['test']:,} images {peaks['test'].memory / 1e9:.2f} GB, "
            f"of {sizes['train']:,} images {peaks['train'].memory / 1e9:.2f} GB: "
            f"{growth:,.0f} bytes for each image more"
        )
        print(grown)
        claim = f"`cnnkit eval` takes {table.rows[1][-2]} times the wall time of `cnnkit predict` on {sizes['test']:,} images."
        save(given.json, "Cost of an evaluation", claim, table.columns, table.rows, notes=[f"The {grown}."])


if __name__ == "__main__":
    main()
