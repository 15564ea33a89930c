"""Cost of `cnnkit report` beyond the evaluation, and the size of its page.

    python docs/benchmarks/report.py RUN [--turns 3]

RUN is evaluated first, so that the figures are of the page alone; its images should lie in the cache, where the training left them.
Then the whole command is run, start-up included, by turns with one that only loads what it loads. Prints one row of a
Markdown table: seconds and CPU-seconds of the command (of the fastest turn), those of loading alone, peak memory, the page.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from document import Table, add_option, save, typed

LOAD = "import cnnkit.api.pages.run, cnnkit.report.page.run, cnnkit.report.pictures.plots"


@dataclass(frozen=True)
class Cost:
    """Wall and CPU seconds of one command, and what it printed."""

    seconds: float
    cpu: float
    out: str


def cost(*arguments: str) -> Cost:
    """Run Python with `arguments` and measure it."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    out = subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - started, cpu, out)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    add_option(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        command = ("-m", "cnnkit", "report", str(given.run), "--out", str(page), "--json")
        cost(*command)  # evaluates if need be
        written, loaded = [], []
        for _ in range(given.turns):
            written.append(cost(*command))
            loaded.append(cost("-c", LOAD))
    facts = json.loads(written[-1].out)
    best, loading = min(written, key=lambda one: one.seconds), min(loaded, key=lambda one: one.seconds)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    times = (f"{value:.1f}" for value in (best.seconds, best.cpu, loading.seconds, loading.cpu))
    sizes = (f"{peak:.2f} GiB", f"{facts['bytes'] / 1e6:.2f} MB", f"{facts['pictures']:,}", str(facts["heat_maps"]))
    table = Table("run", "s", "CPU-s", "loading s", "loading CPU-s", "peak memory", "page", "pictures", "heat maps")
    table.add(f"`{typed([str(given.run)])}`", *times, *sizes)
    claim = f"`cnnkit report` writes a page of {facts['bytes'] / 1e6:.2f} MB in {best.seconds:.1f} seconds."
    save(given.json, "Cost of a report", claim, table.columns, table.rows)


if __name__ == "__main__":
    main()
