"""The decoder against a collection of odd and broken image files: what was expected of each, and what came.

    python docs/benchmarks/odd_images.py FOLDER

FOLDER holds the files and a `manifest.tsv` with the columns `file`, `expectation`, `rgb_size` (WxH) and `rgb_mean` (R/G/B).
An expectation is ``decode`` (that size, each channel's mean within 2 levels), ``skip`` or ``skip-bomb`` (a `DataError`),
``either`` or ``decode-or-report`` (a decoded image must be right where the manifest says what is right). Anything but a
`DataError` is a crash. Exits with 1 if a file is not what it should be or if memory peaks at 512 MB.
"""

from __future__ import annotations

import csv
import resource
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cnnkit.data.image import read_image
from cnnkit.errors import DataError

TOLERANCE = 2.0  # levels of 255; decoders of lossy formats differ by less
PEAK_MB = 512  # one decoded image of the largest size that is allowed, and the process around it
MAY_DECODE = frozenset({"decode", "either", "decode-or-report"})
MAY_FAIL = frozenset({"skip", "skip-bomb", "either", "decode-or-report"})


def judge(path: Path, row: Mapping[str, str]) -> tuple[str, bool]:
    """Decode one file; return what came, in words, and whether the manifest's `row` allows it."""
    try:
        image = read_image(path)
    except DataError as error:
        return str(error).removeprefix(f"{path}: "), row["expectation"] in MAY_FAIL
    except Exception as error:  # noqa: BLE001 (what the decoder lets through is what this looks for)
        return f"CRASH {type(error).__name__}: {error}", False
    mean = image.mean((0, 1))
    size = f"{image.shape[1]}x{image.shape[0]}"
    right = row["expectation"] in MAY_DECODE
    if row["rgb_mean"]:
        expected = np.array([float(level) for level in row["rgb_mean"].split("/")])
        right = right and size == row["rgb_size"] and bool((np.abs(mean - expected) <= TOLERANCE).all())
    return f"{size} {'/'.join(f'{level:.1f}' for level in mean)}", right


def main(folder: Path) -> int:
    """Print the table; return the exit code."""
    with (folder / "manifest.tsv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    wrong: Counter[str] = Counter()
    slowest = 0.0
    for row in rows:
        started = time.perf_counter()
        got, right = judge(folder / row["file"], row)
        slowest = max(slowest, time.perf_counter() - started)
        wrong[row["expectation"]] += not right
        expected = f"{row['expectation']} {row['rgb_size']} {row['rgb_mean']}".strip()
        print(f"{'ok   ' if right else 'WRONG'} {row['file'][-60:]:60} {expected:36} {got[:120]}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(f"\n{len(rows)} files, {wrong.total()} not as expected; slowest {slowest:.2f} s; peak memory {peak:.0f} MB (limit {PEAK_MB})")
    return int(wrong.total() > 0 or peak >= PEAK_MB)


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 (the script and the folder)
        sys.exit("usage: python docs/benchmarks/odd_images.py FOLDER")
    sys.exit(main(Path(sys.argv[1])))
