"""Cost of dividing a large table of images.

    python docs/benchmarks/split.py [ROWS]

Writes a CSV of ROWS rows (default 1,000,000; 100 classes of unequal size, 5 % of the rows in groups), divides it with
``cnnkit split --by path``, divides it again with a tenth more rows, and prints wall and CPU seconds, peak memory, the shares
reached and how many of the old rows moved to another split.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from document import add_option, save


def write_table(path: Path, rows: int) -> None:
    """Write a table of images that do not exist."""
    random = np.random.default_rng(0)
    labels = np.minimum(random.geometric(0.03, size=2_000_000)[:rows], 100)
    groups = random.integers(0, 20 * 5000, size=2_000_000)[:rows]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "group"))
        writer.writerows(
            (f"camera-{index % 7}/2024/image-{index:08d}.jpg", f"class {label}", f"visit {group}" if group < 5000 else "")  # noqa: PLR2004
            for index, (label, group) in enumerate(zip(labels.tolist(), groups.tolist(), strict=True))
        )


def divide(table: Path, out: Path) -> tuple[dict[str, str], tuple[str, str, str]]:
    """Run the command; return path -> split, and wall seconds, CPU seconds and peak memory."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "cnnkit", "split", str(table), "--by", "path", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    wall, peak = time.perf_counter() - started, usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    with out.open(newline="", encoding="utf-8") as file:
        splits = {row["path"]: row["split"] for row in csv.DictReader(file)}
    return splits, (f"{wall:.1f}", f"{usage.ru_utime + usage.ru_stime:.1f}", f"{peak:,.0f} MB")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", type=int, nargs="?", default=1_000_000)
    add_option(parser)
    given = parser.parse_args()
    rows = given.rows
    with tempfile.TemporaryDirectory() as folder:
        table, out = Path(folder, "images.csv"), Path(folder, "split.csv")
        write_table(table, rows)
        before, cost = divide(table, out)
        counts = Counter(before.values())
        shares = ", ".join(f"{split} {counts[split] / rows:.4f}" for split in ("train", "val", "test"))
        cells = [(f"{rows:,}", *cost, "")]
        print(f"{rows:,} rows: {cost[0]} s wall, {cost[1]} CPU-s, peak {cost[2]}; {shares}")
        write_table(table, rows + rows // 10)
        after, cost = divide(table, out)
        moved = sum(after[path] != split for path, split in before.items())
        cells.append((f"{len(after):,}", *cost, f"{moved:,} ({100 * moved / rows:.2f} %)"))
        print(f"{len(after):,} rows: {cost[0]} s wall, {cost[1]} CPU-s, peak {cost[2]}; {moved} of the first {rows:,} moved")
    claim = f"`cnnkit split` divides a table of {rows:,} rows in {cells[0][1]} seconds."
    columns = ("rows", "wall s", "CPU-s", "peak memory", "rows of the first table moved")
    save(given.json, "Splits of a large table", claim, columns, cells, notes=[f"The shares are {shares}."])


if __name__ == "__main__":
    main()
