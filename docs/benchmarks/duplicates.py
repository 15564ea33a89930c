"""Near copies among images, measured: those that a data set has, and those planted among photographs.

    python docs/benchmarks/duplicates.py CIFAR10 --plant ANTS-BEES --sheet found.png --json FILE

CIFAR10 holds train/CLASS/ and test/CLASS/: counts the test images with an exact and with a near copy in train, and draws 60 of
the latter, chosen at random, beside their copy. The CPU time of the search is that of all threads. It is also measured on
`SYNTHETIC` blends of two of these images each, in the proportion 3:7 to 7:3.

Of ANTS-BEES, a folder of photographs, some are changed in each of the ways of `CHANGES`. The copies join all the photographs, and
the found pairs are compared with the planted pairs. ``--plant`` may be given several times.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from document import Table, add_option, save
from numpy.typing import NDArray
from PIL import Image

from cnnkit.data.image import UndecodableError
from cnnkit.data.source import Record, Source, open_source
from cnnkit.data.split.duplicates import Copies, clusters, exact_groups, find_copies, link_equal
from cnnkit.data.store.facts import DecodedImage, Facts, Measured, decode, measure

Pixels = NDArray[np.uint8]
BLOCK = 500  # images decoded at a time
PLANTED = 40
SYNTHETIC = 150_000
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
    "mirrored": lambda image: jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "quarter turn": lambda image: jpeg(image.transpose(Image.Transpose.ROTATE_90)),
    "mirrored, half size, quality 50": lambda image: jpeg(half(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), 50),
}


def decoded(source: Source) -> Iterator[tuple[Record, DecodedImage]]:
    """Decode the readable images of a source."""
    for record in source.records:
        try:
            yield record, decode(source.read(record))
        except UndecodableError as error:
            print(f"left out: {record.path}: {error}", file=sys.stderr)


def measure_all(images: Iterator[tuple[Record, DecodedImage]]) -> tuple[list[Record], Measured]:
    """Return the records of images, and their facts, thumbnails and looks."""
    records: list[Record] = []
    parts: list[Measured] = [measure([])]
    block: list[DecodedImage] = []
    for record, image in images:
        records.append(record)
        block.append(image)
        if len(block) == BLOCK:
            parts.append(measure(block))
            block.clear()
    parts.append(measure(block))
    facts = [item for part in parts for item in part.facts]
    return records, Measured(facts, *(np.concatenate(values) for values in zip(*(part[1:] for part in parts), strict=True)))


def timed(measured: Measured) -> tuple[Copies, float]:
    """Return the copies among images, and the CPU seconds of the search."""
    started = time.process_time()
    copies = find_copies(measured.thumbnails, measured.looks, measured.facts)
    return copies, time.process_time() - started


def between_splits(folder: Path, sheet: Path | None, table: Table) -> None:
    """Count the copies between test and train, and measure the search on these images and on blends of them."""
    source = open_source(str(folder))
    records, measured = measure_all(decoded(source))
    copies, seconds = timed(measured)
    pairs = copies.pairs
    test = np.array([record.split == "test" for record in records])
    crossing = pairs[test[pairs].sum(axis=1) == 1]
    crossing = np.where(test[crossing[:, :1]], crossing[:, ::-1], crossing)  # train, test
    exact = {row for rows in exact_groups(measured.facts) for row in rows if test[row] and not test[rows].all()}
    near = np.unique(crossing[:, 1])
    sizes = np.unique(clusters(len(records), pairs), return_counts=True)[1]
    name = f"`{folder.name}`, {len(records):,} images"
    table.add(name, f"{len(pairs):,} pairs of near copies in {(sizes > 1).sum():,} clusters, the largest of {sizes.max()}")
    table.add(f"{name}: test images with a copy in train", f"exact {len(exact)}, near {len(near)} of {test.sum():,}")
    table.add(f"{name}: CPU seconds of the search", f"{seconds:.1f}")
    if sheet is not None:
        random = np.random.default_rng(0)
        drawn = [random.choice(crossing[crossing[:, 1] == row]) for row in random.permutation(near)[:60]]
        contact_sheet([[decode(source.read(records[row])).image for row in pair] for pair in drawn]).save(sheet)
    found, seconds = timed(blends(measured))
    table.add(f"{SYNTHETIC:,} blends of two of these images each: CPU seconds of the search", f"{seconds:.1f}, {len(found.pairs):,} pairs")


def blends(measured: Measured) -> Measured:
    """Return `SYNTHETIC` blends of two images each, as the facts, thumbnails and looks of images of 32 px."""
    random = np.random.default_rng(0)
    thumbnails = np.empty((SYNTHETIC, *measured.thumbnails.shape[1:]), np.uint8)
    looks = np.empty((SYNTHETIC, *measured.looks.shape[1:]), np.uint8)
    for start in range(0, SYNTHETIC, 5000):
        one, other = random.integers(0, len(measured.facts), (2, 5000))
        share = random.uniform(0.3, 0.7, 5000).astype(np.float32)
        for target, given in ((thumbnails, measured.thumbnails), (looks, measured.looks)):
            weight = share.reshape(-1, *(1 for _ in given.shape[1:]))
            target[start : start + 5000] = given[one] * weight + given[other] * (1 - weight)
    return Measured([Facts(sha256=str(row), width=32, height=32) for row in range(SYNTHETIC)], thumbnails, looks)


def contact_sheet(pairs: list[list[Pixels]]) -> Image.Image:
    """Draw pairs of pictures side by side."""
    sheet = Image.new("RGB", (COLUMNS * (2 * SIDE + 12), -(-len(pairs) // COLUMNS) * (SIDE + 8)), "white")
    for place, pair in enumerate(pairs):
        top, left = (place // COLUMNS) * (SIDE + 8), (place % COLUMNS) * (2 * SIDE + 12)
        for side, pixels in enumerate(pair):
            sheet.paste(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC), (left + side * SIDE, top))
    return sheet


def planted(folder: Path, table: Table) -> None:
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
    _, measured = measure_all(iter(images))
    _, alone = measure_all(iter(photographs))
    pairs = timed(measured)[0].pairs
    ids = clusters(len(images), np.concatenate([pairs, link_equal(facts.sha256 for facts in measured.facts)]))
    for name in CHANGES:
        hits = sum(ids[row] == ids[family[row]] for row in range(len(images)) if changed[row] == name)
        table.add(
            f"{PLANTED} of the {len(photographs):,} images of `{folder.name}`, {name}",
            f"{hits} of {PLANTED} in one cluster with the original",
        )
    own_ids = clusters(len(photographs), np.concatenate([timed(alone)[0].pairs, link_equal(facts.sha256 for facts in alone.facts)]))
    wrong = [(int(one), int(two)) for one, two in pairs if own_ids[family[one]] != own_ids[family[two]]]
    table.add(f"`{folder.name}`: pairs of other pictures that only the planted images link", f"{len(wrong)}")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="train/CLASS/ and test/CLASS/")
    parser.add_argument("--plant", type=Path, action="append", default=[], help="folder of photographs; may be repeated")
    parser.add_argument("--sheet", type=Path, help="PNG file to draw found pairs into")
    add_option(parser)
    options = parser.parse_args()
    table = Table("data", "found")
    if options.folder:
        between_splits(options.folder, options.sheet, table)
    for folder in options.plant:
        planted(folder, table)
    claim = "The table has the recall of planted copies by kind, and the CPU seconds of the search in all symmetries."
    save(
        options.json,
        "Near copies",
        claim,
        table.columns,
        table.rows,
        notes=[
            "The search ran on one thread (`OMP_NUM_THREADS=1`).",
            "`flowers` and `face-masks` are public sets of 5,080 and 3,832 photographs.",
        ],
    )


if __name__ == "__main__":
    main()
