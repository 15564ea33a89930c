"""Seconds from the command to the first step of a training whose images are in the store.

    python docs/benchmarks/start_up.py [--turns 5] [--imports 15] --arch custom-cnn -- --data cifar10

`--arch` and what stands after ``--`` go to ``cnnkit train``, which is ended when it has made its first update of the weights; it runs
once before the turns, so that the store is filled. Beside it, by turns and each in a process of its own, two scripts for the same
architecture with 10 classes: "build" imports torch and builds the network, "step" also updates its weights once, on two images of
`--image-size` px with torch's AdamW (whose first use imports torch's compiler, wanted or not). The clock starts with the process.
Prints the median seconds of each and the ratios. With ``--imports N`` follow the N modules that took longest to import, with all
that they import, in milliseconds (``python -X importtime``).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from document import Table, add_option, save

BUILD = """\
import sys, torch
from cnnkit.registry import load_architecture
network = load_architecture(sys.argv[1])[0].build(10, 3)
"""
STEP = """\
optimizer = torch.optim.AdamW(network.parameters())
network(torch.rand(2, 3, int(sys.argv[2]), int(sys.argv[2]))).sum().backward()
optimizer.step()
"""
READY = """\
import os
print("ready", flush=True)
os._exit(0)
"""
TRAIN = f"""\
import sys
import cnnkit.cli.train
from cnnkit.cli.app import main
describe = cnnkit.cli.train.describe
def then(*job):  # not before, as torch must come where the command imports it
    from torch.optim.optimizer import register_optimizer_step_post_hook
    register_optimizer_step_post_hook(lambda *_: exec({READY!r}))
    describe(*job)
cnnkit.cli.train.describe = then
sys.exit(main(["train", *sys.argv[1:]]))
"""


def run(script: str, arguments: list[str], *options: str) -> tuple[float, str]:
    """Return the seconds until a script says that it is ready, and what it wrote to stderr."""
    settings = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # as the command does before torch is loaded
    with tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *options, "-c", script, *arguments], stdout=subprocess.PIPE, stderr=errors, text=True, env=settings
        )
        said = process.stdout.readline() if process.stdout else ""
        took = time.perf_counter() - began
        process.communicate()
        errors.seek(0)
        if said != "ready\n":
            sys.exit(f"no step was made:\n{errors.read()}")
        return took, errors.read()


def slowest(lines: list[str], count: int) -> list[tuple[float, str]]:
    """Return (milliseconds, module) of the `count` slowest imports among the lines of importtime."""
    found: list[tuple[float, str]] = []
    for line in lines:
        kind, _, figures = line.partition(":")
        if kind == "import time" and "cumulative" not in figures:
            _, total, name = figures.split("|")
            found.append((int(total) / 1000, name.rstrip()))
    return sorted(found, reverse=True)[:count]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--imports", type=int, default=0, help="slowest imports to list")
    parser.add_argument("--arch", default="custom-cnn")
    parser.add_argument("--image-size", default="32", help="of the one step, px")
    add_option(parser)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="-- and flags of cnnkit train beside --arch")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as runs:
        flags = ["--arch", given.arch, "--out", str(Path(runs)), *(argument for argument in given.arguments if argument != "--")]
        work = {
            "build": (BUILD + READY, [given.arch]),
            "step": (BUILD + STEP + READY, [given.arch, given.image_size]),
            "train": (TRAIN, flags),
        }
        for script, arguments in work.values():  # files of modules are read from the disk, images decoded
            run(script, arguments)
        taken = {name: [] for name in work}
        for _ in range(given.turns):
            for name, (script, arguments) in work.items():
                taken[name].append(run(script, arguments)[0])
        _, told = run(TRAIN, flags, "-X", "importtime") if given.imports else (0, "")
    build, step, train = (statistics.median(taken[name]) for name in work)
    table = Table("to the first step, s", "torch and build, s", "and one step, s", "ratio to build", "ratio to one step")
    table.add(f"{train:.1f}", f"{build:.1f}", f"{step:.1f}", f"{train / build:.2f}", f"{train / step:.2f}")
    claim = f"A training with its images in the store makes its first step {train:.1f} seconds after the command."
    save(given.json, "Start-up of a training", claim, table.columns, table.rows)
    for milliseconds, module in slowest(told.splitlines(), given.imports):
        print(f"{milliseconds:8.0f} {module}")


if __name__ == "__main__":
    main()
