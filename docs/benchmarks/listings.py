"""Memory of every step between the files and a training, in bytes an image, without any real image.

    python docs/benchmarks/listings.py [--files 200000] [--rows 1000000] [--json FILE]

Lists a folder, a tar and a zip of FILES empty files in `CLASSES` class folders, and a CSV of ROWS rows, each in a new process. On the
records of the CSV it leaves images out by a pattern, groups them by an expression, reads the splits of an earlier split.csv and writes a
new one. On a store of ROWS rows, made as in large_index.py, it runs the checks of `cnnkit doctor`. The memory is that of the process
without mapped files, at its peak during the step, above the memory before the first step. It needs Linux.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import numpy as np
from document import add_option, save
from large_index import CLASSES, SHARES, SyntheticSource, make_store, measured, memory

from cnnkit.data.columns import Codes, RecordColumns
from cnnkit.data.exclusion import leave_out
from cnnkit.data.source import SPLITS, open_source
from cnnkit.data.split.duplicates import NO_COPIES
from cnnkit.data.split.grouping import assign_groups
from cnnkit.data.split.split import SampleColumns, assign_splits
from cnnkit.data.split.split_file import COLUMNS, read_pins, split_rows
from cnnkit.data.store.index import HASH_BYTES, HashColumns
from cnnkit.data.store.scan import find_scan
from cnnkit.data.store.store import keys_of
from cnnkit.doctor.evidence import Evidence
from cnnkit.doctor.examine import examine
from cnnkit.files import write_csv

Result = TypeVar("Result")
Cells = list[tuple[str, float, float, float]]  # step, CPU seconds, peak and memory after it in bytes an image


for module in ("archive", "folder", "table"):
    import_module(f"cnnkit.data.sources.{module}")  # before the first look at the memory


class Steps:
    """Steps of one process, measured one after the other."""

    def __init__(self, number: int) -> None:
        self._number, self._base = number, memory()
        self.cells: Cells = []

    def __call__(self, name: str, step: Callable[[], Result]) -> Result:
        """Run `step` and note its figures."""
        found: list[list[float]] = []
        result = measured(step, found)
        seconds, peak, after = found[0]
        scale = 1e6 / self._number
        self.cells.append((name, seconds, (peak - self._base) * scale, (after - self._base) * scale))
        return result


def names(number: int) -> Iterator[str]:
    """Yield the paths of the files."""
    return (f"class-{row % CLASSES:03d}/image-{row:08d}.jpg" for row in range(number))


def list_folder(place: Path, number: int) -> Cells:
    """List a folder, and find the sizes and times of its files."""
    for label in range(CLASSES):
        (place / f"class-{label:03d}").mkdir()
    for name in names(number):
        (place / name).touch()
    steps = Steps(number)
    source = steps("folder: list", lambda: open_source(str(place)))
    steps("folder: size and time of each file", lambda: keys_of(source, source.records))
    return steps.cells


def list_tar(place: Path, number: int) -> Cells:
    """List a tar."""
    with tarfile.open(place / "images.tar", "w") as file:
        for name in names(number):
            file.addfile(tarfile.TarInfo(name), io.BytesIO())
    steps = Steps(number)
    steps("tar: list", lambda: open_source(str(place / "images.tar")))
    return steps.cells


def list_zip(place: Path, number: int) -> Cells:
    """List a zip."""
    with zipfile.ZipFile(place / "images.zip", "w") as file:
        for name in names(number):
            file.writestr(name, b"")
    steps = Steps(number)
    steps("zip: list", lambda: open_source(str(place / "images.zip")))
    return steps.cells


def list_table(place: Path, number: int) -> Cells:
    """Read a CSV, and take the steps from its records to split.csv."""
    with (place / "images.csv").open("w", encoding="ascii") as file:
        file.write("path,label\n")
        file.writelines(f"{name},{name[:9]}\n" for name in names(number))
    steps = Steps(number)
    source = steps("CSV: read", lambda: open_source(str(place / "images.csv")))
    steps("`--exclude`", lambda: leave_out(source, ["*7.jpg"]))
    steps("`--group-by`, four images a group", lambda: assign_groups(source.records, r"image-(\d+)[0-9]\.jpg"))
    records = RecordColumns.of(source.records)
    hashes = HashColumns(np.frombuffer(np.random.default_rng(0).bytes(HASH_BYTES * number), f"V{HASH_BYTES}"))
    assigned = assign_splits(records, hashes, SHARES, 0)
    samples = SampleColumns(records, assigned.splits, hashes, np.arange(number), assigned.units)
    steps("write split.csv", lambda: write_csv(place / "split.csv", COLUMNS, split_rows(samples)))
    steps("`--split-file`", lambda: read_pins(place / "split.csv", records, hashes))
    return steps.cells


def examine_store(place: Path, number: int) -> Cells:
    """Run the checks of `cnnkit doctor` on a store, and those of its file names alone."""
    os.environ["CNNKIT_CACHE"] = str(place)
    make_store(number)
    source = SyntheticSource(number)
    found = find_scan(source, source.records)
    if found is None:
        sys.exit("the store that was made is not found")
    splits = Codes((np.arange(number) % len(SPLITS)).astype(np.int8), SPLITS)
    evidence = Evidence(source.records, found.facts, found.thumbnails, NO_COPIES, splits=splits)
    steps = Steps(number)
    steps("checks of `doctor`", lambda: examine(evidence, shortcuts=False))
    return steps.cells


PARTS: dict[str, Callable[[Path, int], Cells]] = {
    "folder": list_folder,
    "tar": list_tar,
    "zip": list_zip,
    "table": list_table,
    "doctor": examine_store,
}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--part", choices=PARTS, help="run this part alone, in this process")
    add_option(parser)
    given = parser.parse_args()
    numbers = {part: given.files if part in {"folder", "tar", "zip"} else given.rows for part in PARTS}
    if given.part:
        with tempfile.TemporaryDirectory() as place:
            print(json.dumps(PARTS[given.part](Path(place), numbers[given.part])))
        return
    table: list[list[str]] = []
    for part, number in numbers.items():
        command = [sys.executable, __file__, "--part", part, "--files", str(given.files), "--rows", str(given.rows)]
        cells = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        for name, seconds, peak, after in cells:
            table.append([name, f"{number:,}", f"{seconds:.1f}", f"{peak:.0f}", f"{after:.0f}"])
            print(*table[-1], sep="\t")
    worst = max(table, key=lambda cells: int(cells[3]))
    claim = f"No step between the files and a training takes more than {worst[3]} bytes an image at its peak."
    notes = ["The memory that a step leaves is in part free, and kept by the C library.", "`doctor` ran without its check of shortcuts."]
    columns = ("step", "images", "CPU-s", "peak bytes an image", "bytes an image after")
    save(given.json, "Memory of listings", claim, columns, table, notes=notes)


if __name__ == "__main__":
    main()
