"""Seconds and memory from the list of millions of images to the first batch, without any image.

    python docs/benchmarks/large_index.py [ROWS...]

Makes a store of ROWS rows (default 1,000,000 and 10,000,000) in a temporary folder: an index of random facts, and empty files of
thumbnails and looks. Then a new process lists the records of a source with these images, finds them in the store, splits them with the
default shares and draws the order of the first epoch. It prints CPU seconds and memory of every step. The memory is that of the process
without mapped files, at its peak during the step. The search for near copies is left out. It needs Linux, and 200 bytes a row on the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from document import add_option, save
from numpy.typing import NDArray

from cnnkit.data.augment.randomness import permutation
from cnnkit.data.columns import Codes, RecordColumns, Texts
from cnnkit.data.source import Record, StoredImage
from cnnkit.data.split.split import SampleColumns, assign_splits
from cnnkit.data.store import journal
from cnnkit.data.store.index import HASH_BYTES, ROW, ROWS_FILE, TEXTS_FILE, KeyColumns, checksum
from cnnkit.data.store.scan import find_scan
from cnnkit.data.store.store import (
    DECODER_VERSION,
    JOURNAL_FILE,
    LOOK_SHAPE,
    LOOKS_FILE,
    THUMBNAIL_SHAPE,
    THUMBNAILS_FILE,
    origin_hash,
    row_nbytes,
    stores_folder,
)

CLASSES = 1000
SHARES = (0.7, 0.15, 0.15)
BATCH_SIZE = 256
BLOCK = 2**18  # rows that are made at a time
SAMPLE_SECONDS = 0.02  # between two looks at the memory
Result = TypeVar("Result")


class SyntheticSource:
    """A source of `number` images that do not exist."""

    name = "synthetic"
    notes = ()

    def __init__(self, number: int) -> None:
        labels = np.arange(number) % CLASSES
        paths = (f"class-{row % CLASSES:03d}/image-{row:08d}.jpg" for row in range(number))
        self.records = RecordColumns(Texts.of(paths), Codes(labels.astype(np.uint16), [f"class {label:03d}" for label in range(CLASSES)]))

    def read(self, record: Record) -> StoredImage:
        """Fail: nothing is decoded here."""
        raise NotImplementedError(record)

    def stamp(self, record: Record) -> str:
        """Return the stamp of an image."""
        return stamp(int(record.path[-12:-4]))

    def stamp_all(self, records: Sequence[Record]) -> Iterator[str]:
        """Return the stamps of all images."""
        return map(stamp, range(len(records)))


def stamp(row: int) -> str:
    """Return the stamp of an image: a size and a time."""
    return f"{100_000 + row % 977}:1795806179018424516"


def make_store(number: int, sides: NDArray[np.int64] | None = None) -> Path:
    """Write a store with the index of `number` images of 500 x 375 px, or square ones of `sides` (N,) px, and return its folder."""
    folder = stores_folder() / f"{origin_hash(SyntheticSource.name)}-0001"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    lines = [journal.encode({"decoder": DECODER_VERSION, "source": SyntheticSource.name})]
    end = 0
    with (folder / ROWS_FILE).open("wb") as rows, (folder / TEXTS_FILE).open("wb") as texts:
        for start in range(0, number, BLOCK):
            stop = min(start + BLOCK, number)
            keys = KeyColumns.of((f"class-{row % CLASSES:03d}/image-{row:08d}.jpg", stamp(row)) for row in range(start, stop)).texts
            block = np.zeros(stop - start, ROW)
            block["end"] = keys.bounds[1:] + end
            block["sha256"] = np.frombuffer(random.bytes(HASH_BYTES * len(block)), f"V{HASH_BYTES}")
            block["width"], block["height"] = (500, 375) if sides is None else (sides[start:stop], sides[start:stop])
            block["format"], block["mode"], block["orientation"], block["tones"] = 1, 2, 1, 20
            block["mean"], block["std"], block["sharpness"] = 120, 50, 0.7
            end += len(keys.blob)
            stored = block.tobytes(), keys.blob.tobytes()
            rows.write(stored[0])
            texts.write(stored[1])
            words = [] if start else ["JPEG", "RGB"]
            entry = {"start": start, "stop": stop, "checksum": checksum(*stored), "words": words, "geometries": [], "filled": {}}
            lines.append(journal.encode(entry))
    (folder / JOURNAL_FILE).write_bytes(b"".join(lines))
    for name, shape in ((THUMBNAILS_FILE, THUMBNAIL_SHAPE), (LOOKS_FILE, LOOK_SHAPE)):
        with (folder / name).open("wb") as file:
            file.truncate(number * row_nbytes(shape))
    return folder


def memory() -> float:
    """Return the memory of this process without mapped files, in MB."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) / 1e3


def measured(step: Callable[[], Result], cells: list[list[float]]) -> Result:
    """Run `step`, append its CPU seconds, its peak and the memory after it to `cells`, and return its result."""
    peak, done = [memory()], threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_SECONDS):
            peak.append(memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.process_time()
    result = step()
    cells.append([time.process_time() - started, max(*peak, memory()), memory()])
    done.set()
    watcher.join()
    return result


def run(number: int) -> list[list[float]]:
    """Return CPU seconds, peak and memory after each step for `number` images."""
    cells: list[list[float]] = [[0.0, memory(), memory()]]
    source = measured(lambda: SyntheticSource(number), cells)
    found = measured(lambda: find_scan(source, source.records), cells)
    if found is None:
        sys.exit("the store that was made is not found")
    hashes = found.facts.hashes
    assigned = measured(lambda: assign_splits(source.records, hashes, SHARES, 0), cells)
    samples = SampleColumns(source.records, assigned.splits, hashes, np.arange(number), assigned.units)

    def first_batch() -> Any:
        train = np.flatnonzero(samples.splits.codes == samples.splits.names.index("train"))
        return train[permutation(0, 1, len(train))[:BATCH_SIZE]]

    measured(first_batch, cells)
    return cells


STEPS = ("start", "records of the source", "index of the store opened, rows found", "split", "first batch")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--one", choices=("make", "run"), help=argparse.SUPPRESS)
    add_option(parser)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(str(make_store(given.rows[0])) if given.one == "make" else run(given.rows[0])))
        return
    table: list[list[str]] = []
    cells, stored, number = [], 0, 1
    for number in given.rows:
        with tempfile.TemporaryDirectory() as folder:
            world = {**os.environ, "CNNKIT_CACHE": folder}
            command = [sys.executable, __file__, str(number), "--one"]
            subprocess.run([*command, "make"], check=True, env=world, stdout=subprocess.DEVNULL)
            stored = sum((next(Path(folder).glob("stores/*")) / name).stat().st_size for name in (ROWS_FILE, TEXTS_FILE))
            cells = json.loads(subprocess.run([*command, "run"], check=True, env=world, stdout=subprocess.PIPE).stdout)
        base = cells[0][2]
        for name, (seconds, peak, after) in zip(STEPS, cells, strict=True):
            per_image = f"{(after - base) * 1e6 / number:.0f}"
            table.append([f"{number:,}", name, f"{seconds:.1f}", f"{peak:,.0f}", f"{after:,.0f}", per_image])
            print(*table[-1], sep="\t")
        print(f"index on the disk: {stored / number:.0f} bytes an image")
    claim = f"From the list of {given.rows[-1]:,} images to the first batch, cnnkit takes {sum(cell[0] for cell in cells):.0f} CPU-seconds."
    columns = ("images", "step", "CPU-s", "peak MB", "MB after", "bytes an image after")
    notes = [f"The index takes {stored / number:.0f} bytes an image on the disk.", "Near copies are not searched, and no image is read."]
    save(given.json, "Index of millions of images", claim, columns, table, notes=notes)


if __name__ == "__main__":
    main()
