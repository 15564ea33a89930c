"""Speed of listing and scanning a folder, beside decoding its files and nothing else.

    python docs/benchmarks/scan.py FOLDER [SIZE]

Lists FOLDER, reads every file once so that the disk plays no part, decodes all of them with Pillow alone in one process
per core ("raw"), scans them without and with canvases of SIZE px (default 32) into an empty cache, and scans them again.
Rates are images a second of wall time; the ratio is that of the scan to raw. CPU seconds are those of all processes.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from document import add_option, save
from PIL import Image

from cnnkit.data.source import Source, open_source
from cnnkit.data.store.scan import Scan, scan
from cnnkit.model.preprocessing import Preprocessing

CHUNK = 256
Rows = list[tuple[str, ...]]


def raw(paths: list[str]) -> int:
    """Decode files with Pillow, the least that any scan must do."""
    for path in paths:
        with Image.open(io.BytesIO(Path(path).read_bytes())) as image:
            image.convert("RGB").load()
    return len(paths)


def cpu_seconds() -> float:
    """CPU seconds of this process and of those that have ended."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def timed(title: str, images: int, work: Callable[[], object], rows: Rows) -> float:
    """Run `work`, print its figures, append them to `rows` and return the rate."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    print(f"{title:32} {wall:7.2f} s wall {cpu:7.2f} CPU-s {images / wall:9,.0f} images/s")
    rows.append((title, f"{wall:.2f}", f"{cpu:.2f}", f"{images / wall:,.0f}"))
    return images / wall


def scanned(source: Source, size: int | None) -> Scan:
    """Scan all of `source`."""
    geometry = Preprocessing(image_size=size, mean=(0.0,) * 3, std=(1.0,) * 3) if size else None
    return scan(source, source.records, geometry)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("size", type=int, nargs="?", default=32, help="px of the canvases")
    add_option(parser)
    given = parser.parse_args()
    folder, size = given.folder, given.size
    source = open_source(folder)
    images, cores = len(source.records), os.cpu_count() or 1
    paths = [f"{folder}/{record.path}" for record in source.records]
    for path in paths:
        Path(path).read_bytes()
    print(f"{images:,} images, {cores} cores")
    rows: Rows = []
    timed("list, warm", images, lambda: open_source(folder), rows)
    parts = [paths[start : start + CHUNK] for start in range(0, images, CHUNK)]
    with ProcessPoolExecutor(cores, mp_context=get_context("forkserver")) as pool:
        list(pool.map(raw, parts[:cores]))  # the processes are there before the clock starts
        decoding = timed("raw decode, one process per core", images, lambda: list(pool.map(raw, parts)), rows)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CNNKIT_CACHE"] = cache
        facts = timed("scan: facts", images, lambda: scanned(source, None), rows)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CNNKIT_CACHE"] = cache
        whole = timed(f"scan: facts, canvases of {size} px", images, lambda: scanned(source, size), rows)
        timed("the same again", images, lambda: scanned(source, size), rows)
        timed("list and scan again", images, lambda: scanned(open_source(folder), size), rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(f"scan to raw decode: facts {facts / decoding:.2f}, with canvases {whole / decoding:.2f}; peak memory {peak:.0f} MB")
    claim = f"A scan with canvases runs at {whole / decoding:.2f} of the speed of decoding alone."
    notes = [f"A scan without canvases runs at {facts / decoding:.2f} of it.", f"The peak memory is {peak:.0f} MB, without the workers."]
    save(given.json, "The scan", claim, ("work", "wall s", "CPU-s", "images/s"), rows, notes=notes)


if __name__ == "__main__":
    main()
