"""Near copies among a million images: recall of planted copies, CPU seconds and memory of the search of `split` and `doctor`.

    python docs/benchmarks/million_copies.py CIFAR10 ANTS-BEES [--rows 1000000] [--json FILE]

The first images are those of CIFAR10 (32 px) and ANTS-BEES (photographs). The others are blends of 96 px: two images of CIFAR10,
enlarged, in the proportion 3:7 to 7:3, with the fine detail of a piece of a photograph of ANTS-BEES. The share of pairs that the search
proposes is then that of CIFAR10. In each of the ways of `duplicates.CHANGES`, `PLANTED` blends and `duplicates.PLANTED` photographs are
changed, each of which has only one copy. All rows are in random order. The copies that the search finds in CIFAR10 alone are looked
for, too.

A new process opens the store of these images and searches. The memory is that of the process without mapped files. It needs Linux, and
5 KB a row on the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from document import add_option, save
from duplicates import CHANGES, decoded, measure_all, timed
from duplicates import PLANTED as PLANTED_PHOTOGRAPHS
from large_index import SyntheticSource, make_store, measured
from numpy.typing import NDArray
from PIL import Image

from cnnkit.data.columns import Rows
from cnnkit.data.dataset import near_copies
from cnnkit.data.source import open_source
from cnnkit.data.split.duplicates import clusters
from cnnkit.data.store.facts import DecodedImage, Measured, decode, measure
from cnnkit.data.store.scan import find_scan
from cnnkit.data.store.store import LOOK_SHAPE, LOOKS_FILE, THUMBNAIL_SHAPE, THUMBNAILS_FILE

PLANTED = 1000  # blends that are changed in each way
SIDE = 96  # px of a blend
PIECES = 20_000  # of photographs, whose detail the blends have
COARSE = 8  # px: detail is finer
BLOCK = 5000  # blends at a time
Floats = NDArray[np.float32]


class Blends:
    """Blends of images `base` (N, 32, 32, 3) with the detail of `PIECES` of photographs; a blend is a pure function of its number."""

    def __init__(self, base: NDArray[np.uint8], photographs: list[DecodedImage]) -> None:
        self.base, self._random = base, np.random.default_rng(0)
        self.pieces = np.stack([self._piece(photographs[number % len(photographs)].image) for number in range(PIECES)])

    def _piece(self, image: NDArray[np.uint8]) -> NDArray[np.int8]:
        """Return the luma of a random piece of a photograph without its coarse structure."""
        side = int(self._random.integers(SIDE, min(image.shape[:2]) + 1))
        top, left = (int(self._random.integers(0, length - side + 1)) for length in image.shape[:2])
        small = Image.fromarray(image[top : top + side, left : left + side]).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
        coarse = small.resize((SIDE // COARSE, SIDE // COARSE), Image.Resampling.BOX).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        detail = np.asarray(small, np.float32) - np.asarray(coarse, np.float32)
        return np.clip(detail, -127, 127).astype(np.int8)

    def images(self, numbers: Rows) -> NDArray[np.uint8]:
        """Return the blends (n, `SIDE`, `SIDE`, 3) of these numbers."""
        result = np.empty((len(numbers), SIDE, SIDE, 3), np.uint8)
        for row, number in enumerate(numbers.tolist()):
            random = np.random.default_rng([1, number])
            one, other, piece = (int(random.integers(0, count)) for count in (len(self.base), len(self.base), PIECES))
            share = random.uniform(0.3, 0.7)
            mixed = (self.base[one] * share + self.base[other] * (1 - share)).astype(np.uint8)
            enlarged = np.asarray(Image.fromarray(mixed).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.int16)
            result[row] = np.clip(enlarged + self.pieces[piece][:, :, None], 0, 255)
        return result


def make(cifar: Path, photographs: Path, number: int) -> dict[str, list[list[int]]]:
    """Write the store, and return pairs of rows of copies by kind."""
    items = list(decoded(open_source(str(cifar))))
    _, real = measure_all(iter(items))
    photos = list(decoded(open_source(str(photographs))))
    _, measured_photos = measure_all(iter(photos))
    blends = Blends(np.stack([item.image for _, item in items]), [item for _, item in photos])
    chosen_photos = np.random.default_rng(1).permutation(len(photos))[: len(CHANGES) * PLANTED_PHOTOGRAPHS].reshape(len(CHANGES), -1)
    planted = number - len(CHANGES) * (PLANTED + PLANTED_PHOTOGRAPHS)  # the first number of a copy
    count = planted - len(items) - len(photos)
    originals = np.random.default_rng(2).choice(count, (len(CHANGES), PLANTED), replace=False)
    # Rows are a permutation of: CIFAR10, photographs, blends, copies of photographs, copies of blends.
    place = np.random.default_rng(3).permutation(number)
    first_photo, first_blend = len(items), len(items) + len(photos)
    pairs: dict[str, list[list[int]]] = {"CIFAR10": place[timed(real)[0].pairs].tolist()}
    sides = np.full(number, SIDE)
    with tempfile.TemporaryDirectory() as draft:
        thumbnails = np.lib.format.open_memmap(f"{draft}/thumbnails", "w+", np.uint8, (number, *THUMBNAIL_SHAPE))
        looks = np.lib.format.open_memmap(f"{draft}/looks", "w+", np.uint8, (number, *LOOK_SHAPE))

        def write(start: int, found: Measured) -> None:
            rows = place[start : start + len(found.facts)]
            thumbnails[rows], looks[rows] = found.thumbnails, found.looks
            sides[rows] = [min(facts.width, facts.height) for facts in found.facts]

        write(0, real)
        write(first_photo, measured_photos)
        for start in range(0, count, BLOCK):
            numbers = np.arange(start, min(start + BLOCK, count))
            write(first_blend + start, measure([decode(image) for image in blends.images(numbers)]))
        end = planted
        for (name, change), photo_rows, numbers in zip(CHANGES.items(), chosen_photos, originals, strict=True):
            for kind, rows, given in (
                ("photographs", (first_photo + photo_rows).tolist(), [photos[row][1].image for row in photo_rows.tolist()]),
                ("blends", (first_blend + numbers).tolist(), list(blends.images(numbers))),
            ):
                changed = [decode(change(Image.fromarray(image))) for image in given]
                write(end, measure(changed))
                pairs[f"{kind}, {name}"] = [[int(place[row]), int(place[end + at])] for at, row in enumerate(rows)]
                end += len(rows)
        folder = make_store(number, sides)
        thumbnails.tofile(folder / THUMBNAILS_FILE)
        looks.tofile(folder / LOOKS_FILE)
    return pairs


def run(number: int, pairs: dict[str, list[list[int]]]) -> dict[str, Any]:
    """Search, and return CPU seconds, peak and memory, the number of pairs found, and the recall by kind."""
    source = SyntheticSource(number)
    found = find_scan(source, source.records)
    if found is None:
        sys.exit("the store that was made is not found")
    cells: list[list[float]] = []
    copies = measured(lambda: near_copies(found), cells)
    ids = clusters(number, copies.pairs)
    planted = {name: np.array(rows).T for name, rows in pairs.items()}
    recall = {name: [int((ids[one] == ids[other]).sum()), len(one)] for name, (one, other) in planted.items()}
    sizes = np.unique(ids, return_counts=True)[1]
    return {"cells": cells[0], "pairs": len(copies.pairs), "alike": len(copies.alike), "largest": int(sizes.max()), "recall": recall}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="images of 32 px")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--one", choices=("make", "run"), help=argparse.SUPPRESS)
    add_option(parser)
    given = parser.parse_args()
    if given.one == "make":
        json.dump(make(given.folder, given.photographs, given.rows), sys.stdout)
        return
    if given.one == "run":
        json.dump(run(given.rows, json.load(sys.stdin)), sys.stdout)
        return
    with tempfile.TemporaryDirectory() as folder:
        world = {**os.environ, "CNNKIT_CACHE": folder}
        command = [sys.executable, __file__, str(given.folder), str(given.photographs), "--rows", str(given.rows), "--one"]
        pairs = subprocess.run([*command, "make"], check=True, env=world, stdout=subprocess.PIPE).stdout
        figures = json.loads(subprocess.run([*command, "run"], check=True, env=world, input=pairs, stdout=subprocess.PIPE).stdout)
    report(figures, given.rows, given.json)


def report(figures: dict[str, Any], number: int, path: Path | None) -> None:
    """Print the `figures` of `run` for `number` images, and save them."""
    seconds, peak, _ = figures["cells"]
    rows = [
        [f"{number:,} images: CPU seconds of the search", f"{seconds:.1f}"],
        ["peak memory without mapped files", f"{peak:,.0f} MB"],
        ["pairs found", f"{figures['pairs']:,}, the largest cluster has {figures['largest']} images"],
        *([f"copies in one cluster: {name}", f"{hits:,} of {total:,}"] for name, (hits, total) in figures["recall"].items()),
    ]
    for row in rows:
        print(*row, sep="\t")
    planted = [cells for name, cells in figures["recall"].items() if name != "CIFAR10"]
    share = sum(hits for hits, _ in planted) / sum(total for _, total in planted)
    claim = f"The search for near copies among {number:,} images takes {seconds:.0f} CPU-seconds and finds {share:.1%} of planted copies."
    notes = ["The search ran on one thread (`OMP_NUM_THREADS=1`).", "`CIFAR10`: the pairs that are found among its 60,000 images alone."]
    save(path, "Near copies of a million images", claim, ("measured", "figure"), rows, notes=notes)


if __name__ == "__main__":
    main()
