"""Near copies among images, measured: those that a data set has, and those planted among photographs.

    python docs/benchmarks/duplicates.py CIFAR10 --plant ANTS-BEES --sheet found.png

CIFAR10 holds train/CLASS/ and test/CLASS/: counts the test images with an exact and with a near copy in train, and draws 60 of
the latter, chosen at random, beside their copy. Of ANTS-BEES, a folder of photographs, 20 are changed in each of the ways of
`CHANGES`; the copies join all the photographs, and what is found is compared with what was planted.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnkit.data.image import UndecodableError
from cnnkit.data.source import Record, Source, open_source
from cnnkit.data.split.duplicates import clusters, exact_groups, near_pairs
from cnnkit.data.store.facts import DecodedImage, Facts, decode, measure

Pixels = NDArray[np.uint8]
BLOCK = 500  # images decoded at a time
PLANTED = 20
SIDE, COLUMNS = 96, 6  # px of a picture on the sheet, pairs in a row


def jpeg(image: Image.Image, quality: int = 95) -> bytes:
    """Encode as JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def half(image: Image.Image) -> Image.Image:
    """Shrink to half the width and height."""
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.BICUBIC)


def brighter(image: Image.Image) -> Image.Image:
    """Add 15 % to every level."""
    return image.point(lambda level: level * 1.15)


def cropped(image: Image.Image) -> Image.Image:
    """Cut 5 % off the left and the top, 2.5 % off the right and the bottom."""
    width, height = image.size
    return image.crop((width // 20, height // 20, width - width // 40, height - height // 40))


CHANGES: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG quality 50": lambda image: jpeg(image, 50),
    "half size": lambda image: jpeg(half(image)),
    "15 % brighter": lambda image: jpeg(brighter(image)),
    "all three": lambda image: jpeg(half(brighter(image)), 50),
    "cropped by 7.5 %": lambda image: jpeg(cropped(image)),
}


def decoded(source: Source) -> Iterator[tuple[Record, DecodedImage]]:
    """Decode the readable images of a source."""
    for record in source.records:
        try:
            yield record, decode(source.read(record))
        except UndecodableError as error:
            print(f"left out: {record.path}: {error}", file=sys.stderr)


def measure_all(images: Iterator[tuple[Record, DecodedImage]]) -> tuple[list[Record], list[Facts], Pixels]:
    """Return the records, facts and thumbnails of images."""
    records: list[Record] = []
    facts: list[Facts] = []
    thumbnails: list[Pixels] = []
    block: list[DecodedImage] = []

    def flush() -> None:
        found, small = measure(block)
        facts.extend(found)
        thumbnails.append(small)
        block.clear()

    for record, image in images:
        records.append(record)
        block.append(image)
        if len(block) == BLOCK:
            flush()
    if block:
        flush()
    return records, facts, np.concatenate(thumbnails)


def between_splits(folder: Path, sheet: Path | None) -> None:
    """Count what is in test and in train."""
    source = open_source(str(folder))
    records, facts, thumbnails = measure_all(decoded(source))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    pairs = near_pairs(thumbnails, facts)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    test = np.array([record.split == "test" for record in records])
    crossing = pairs[test[pairs[:, 0]] != test[pairs[:, 1]]]
    crossing = np.where(test[crossing[:, :1]], crossing[:, ::-1], crossing)  # train, test
    exact = [row for rows in exact_groups(facts) for row in rows if test[row] and not test[rows].all()]
    near = np.unique(crossing[:, 1])
    sizes = np.unique(clusters(len(records), pairs), return_counts=True)[1]
    print(f"{folder.name}: {len(records):,} images, {test.sum():,} of them test")
    print(f"  {len(pairs):,} pairs of near copies, in {(sizes > 1).sum():,} clusters; the largest: {sorted(sizes.tolist())[-5:]}")
    print(f"  test images with an exact copy in train: {len(exact)}; with a near copy: {len(near)} ({len(near) / test.sum():.2%})")
    print(f"  near_pairs: {wall:.1f} s, {cpu:.1f} CPU s; peak memory {before / 1024:.0f} -> {after / 1024:.0f} MiB")
    if sheet is not None:
        random = np.random.default_rng(0)
        drawn = [random.choice(crossing[crossing[:, 1] == row]) for row in random.permutation(near)[:60]]
        contact_sheet([[decode(source.read(records[row])).image for row in pair] for pair in drawn]).save(sheet)


def contact_sheet(pairs: list[list[Pixels]]) -> Image.Image:
    """Draw pairs of pictures side by side."""
    sheet = Image.new("RGB", (COLUMNS * (2 * SIDE + 12), -(-len(pairs) // COLUMNS) * (SIDE + 8)), "white")
    for place, pair in enumerate(pairs):
        top, left = (place // COLUMNS) * (SIDE + 8), (place % COLUMNS) * (2 * SIDE + 12)
        for side, pixels in enumerate(pair):
            sheet.paste(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC), (left + side * SIDE, top))
    return sheet


def planted(folder: Path) -> None:
    """Find the copies of `PLANTED` photographs again."""
    photographs = list(decoded(open_source(str(folder))))
    originals = np.linspace(0, len(photographs) - 1, PLANTED).astype(int).tolist()
    images, family = list(photographs), list(range(len(photographs)))
    changed: list[str] = [""] * len(photographs)
    for name, change in CHANGES.items():
        for row in originals:
            images.append((photographs[row][0], decode(change(Image.fromarray(photographs[row][1].image)))))
            family.append(row)
            changed.append(name)
    _, facts, thumbnails = measure_all(iter(images))
    found = {(int(first), int(second)) for first, second in near_pairs(thumbnails, facts)}
    print(f"{folder.name}: {PLANTED} of {len(photographs)} photographs planted again, changed")
    for name in CHANGES:
        hits = sum((family[row], row) in found for row in range(len(images)) if changed[row] == name)
        print(f"  {name:18} found {hits} of {PLANTED}")
    copies = {pair for pair in combinations(range(len(photographs), len(images)), 2) if family[pair[0]] == family[pair[1]]}
    copies |= {(family[row], row) for row in range(len(photographs), len(images))}
    wrong = sorted(found - copies)
    others = len(images) * (len(images) - 1) // 2 - len(copies)
    print(f"  all pairs of one photograph: {len(found & copies)} of {len(copies)}; false: {len(wrong)} of {others:,} pairs")
    for first, second in wrong:
        print(f"    {images[first][0].path} {changed[first]} | {images[second][0].path} {changed[second]}")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="train/CLASS/ and test/CLASS/")
    parser.add_argument("--plant", type=Path, help="folder of photographs")
    parser.add_argument("--sheet", type=Path, help="PNG file to draw found pairs into")
    options = parser.parse_args()
    if options.folder:
        between_splits(options.folder, options.sheet)
    if options.plant:
        planted(options.plant)


if __name__ == "__main__":
    main()
