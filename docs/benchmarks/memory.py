"""Peak memory of a training, all its processes together.

    python docs/benchmarks/memory.py [--budget 60s] -- --data cifar10 --arch custom-cnn
    python docs/benchmarks/memory.py --photos FOLDER -- --arch residual-cnn --cache disk

Starts ``cnnkit train`` with the flags after ``--`` and, ten times a second, adds up the proportional set size (PSS: a page that
n processes share counts 1/n) of it and all processes it has started, as Linux tells it. Prints the peak of the sum and, of
that moment, its parts: anonymous memory, which only the training can give back, and pages of mapped files (libraries, the
store), which the system takes back when it needs room. It is measured twice, with an empty cache (the images are
decoded first) and with a warm one.

With ``--photos`` the images are 20,000 JPEG files of 256 px in 10 classes, made of coarse and fine noise and written to
FOLDER if it is empty.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import psutil
from document import Table, add_option, save, typed
from numpy.typing import NDArray
from PIL import Image

PHOTOS, CLASSES, SIDE = 20_000, 10, 256
EVERY = 0.1  # seconds from one look to the next


@dataclass(frozen=True)
class Look:
    """Bytes at one moment: all memory, the anonymous part of it, the part that is pages of files; and in how many processes."""

    whole: int = 0
    anonymous: int = 0
    files: int = 0
    processes: int = 0


def look(root: psutil.Process) -> Look:
    """Look at `root` and all below it."""
    family = [root, *root.children(recursive=True)]
    sums: Counter[str] = Counter()
    for process in family:
        sums.update(parts_of(process.pid))
    return Look(sums["Pss"], sums["Pss_Anon"], sums["Pss_File"], len(family))


def parts_of(pid: int) -> dict[str, int]:
    """Return the sums over a process's mappings in bytes; none if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: 1024 * int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


def measure(flags: list[str], store: Path) -> tuple[Look, float]:
    """Train once; return the moment of the most memory and the seconds it took."""
    command = [sys.executable, "-m", "cnnkit", "train", *flags]
    started, peak = time.perf_counter(), Look()
    with tempfile.TemporaryDirectory() as runs:
        process = psutil.Popen([*command, "--out", runs], stdout=subprocess.DEVNULL, env={**os.environ, "CNNKIT_CACHE": str(store)})
        while process.poll() is None:
            try:
                peak = max(peak, look(process), key=lambda moment: moment.whole)
            except psutil.NoSuchProcess:
                break
            time.sleep(EVERY)
        if process.wait():
            sys.exit(f"failed: {shlex.join(command)}")
    return peak, time.perf_counter() - started


def make_photos(folder: Path) -> None:
    """Write the photos, unless there are some."""
    if folder.is_dir() and any(folder.iterdir()):
        return
    for label in range(CLASSES):
        (folder / f"class {label}").mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(make_photo, folder), range(PHOTOS), chunksize=100))


def make_photo(folder: Path, number: int) -> None:
    """Write one photo: noise of 64 px, of its own, with a piece of a fine texture on it."""
    random = np.random.default_rng(number)
    large = Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    top, left = random.integers(0, SIDE, 2)
    pixels = np.asarray(large) // 2 + texture()[top : top + SIDE, left : left + SIDE]
    Image.fromarray(pixels).save(folder / f"class {number % CLASSES}" / f"{number:05d}.jpg", quality=90)


@cache
def texture() -> NDArray[np.uint8]:
    """Noise of 8 px, (2 SIDE, 2 SIDE, 3), in the lower half of the levels."""
    noise = np.random.default_rng(PHOTOS).integers(0, 256, (SIDE // 4, SIDE // 4, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC)) // 2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--photos", type=Path, help="folder of the photos, made if it is empty")
    parser.add_argument("--budget", default="60s", help="how long to train: --budget of cnnkit train")
    add_option(parser)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="-- and flags of cnnkit train")
    given = parser.parse_args()
    flags = [argument for argument in given.arguments if argument != "--"]
    if given.photos:
        make_photos(given.photos)
    where = ["--data", str(given.photos)] if given.photos else []
    table = Table("`cnnkit train`", "cache", "peak PSS", "anonymous", "of files", "processes", "s")
    with tempfile.TemporaryDirectory() as store:
        for state in ("empty", "warm"):
            peak, seconds = measure([*flags, *where, "--budget", given.budget], Path(store))
            sizes = (f"{size / 1e9:.2f} GB" for size in (peak.whole, peak.anonymous, peak.files))
            table.add(f"`{typed(flags)}`", state, *sizes, str(peak.processes), f"{seconds:.0f}")
    empty, warm = (cells[2] for cells in table.rows)
    claim = f"A training with `{typed(flags)}` peaks at {empty} with an empty cache and at {warm} with a warm one."
    save(given.json, "Memory of a training", claim, table.columns, table.rows)


if __name__ == "__main__":
    main()
