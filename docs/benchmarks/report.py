"""What `cnnkit report` costs beyond the evaluation, and how large its page is.

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

HEAD = """\
| run | s | CPU-s | loading s | loading CPU-s | peak memory | page | pictures | heat maps |
|---|---|---|---|---|---|---|---|---|"""
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
    print(HEAD)
    print(
        f"| `{given.run}` | {best.seconds:.1f} | {best.cpu:.1f} | {loading.seconds:.1f} | {loading.cpu:.1f} | {peak:.2f} GiB | "
        f"{facts['bytes'] / 1e6:.2f} MB | {facts['pictures']:,} | {facts['heat_maps']} |"
    )


if __name__ == "__main__":
    main()
