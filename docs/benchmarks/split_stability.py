"""Stability of the split: the share of images that change their split when a class grows by a tenth.

    python docs/benchmarks/split_stability.py [--seeds 200]

Splits images of two classes with the shares 0.7/0.15/0.15, adds a tenth of each class, splits again, and counts the old images whose split
changed. The images are alone, or in groups of 1 to 6. The bound is three images for each added one; it holds for images without groups.
"""

from __future__ import annotations

import argparse
import hashlib

import numpy as np
from document import add_option, save

from cnnkit.data.source import Record
from cnnkit.data.split.split import assign_splits

SHARES = (0.7, 0.15, 0.15)
SIZES = (100, 1000, 10_000)  # images of a class


def images(number: int, start: int, random: np.random.Generator, *, grouped: bool) -> list[Record]:
    """Return `number` records of each of two classes, with groups of 1 to 6 images if `grouped`."""
    records = []
    for label in "ab":
        groups = np.repeat(np.arange(number), random.integers(1, 7, number))[:number]
        for row, group in enumerate(groups.tolist()):
            records.append(Record(f"{label}/{start + row}", label, None, f"{label}{start + group}" if grouped else None))
    return records


def split(records: list[Record], seed: int) -> list[str]:
    """Return the split of every record; the path takes the part of the content."""
    keys = [hashlib.sha256(f"{seed} {record.path}".encode()).hexdigest() for record in records]
    return assign_splits(records, keys, SHARES, seed).splits


def moved(number: int, seed: int, *, grouped: bool) -> float:
    """Return the share of the first images that change their split when a tenth is added."""
    random = np.random.default_rng(seed)
    old, new = images(number, 0, random, grouped=grouped), images(number // 10, number, random, grouped=grouped)
    before, after = split(old, seed), split([*old, *new], seed)
    return float(np.mean([one != other for one, other in zip(before, after, strict=False)]))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=200)
    add_option(parser)
    given = parser.parse_args()
    rows = []
    for grouped in (False, True):
        for number in SIZES:
            seeds = max(3, min(given.seeds, 200_000 // number))
            shares = 100 * np.array([moved(number, seed, grouped=grouped) for seed in range(seeds)])
            kind = "groups of 1 to 6" if grouped else "single images"
            rows.append((kind, f"{number:,}", str(seeds), f"{shares.mean():.2f} ± {shares.std():.2f}", f"{shares.max():.1f}"))
            print(*rows[-1], sep="  ")
    claim = f"A class of 1,000 images that grows by a tenth moves {rows[1][3]} % of its images to another split."
    columns = ("images are", "images of a class", "seeds", "moved, %", "most of a seed, %")
    bound = "The bound is three moved images for each added image, or 30 %; it holds for single images."
    save(given.json, "Stability of the split", claim, columns, rows, seeds="as stated in each row", notes=[bound])


if __name__ == "__main__":
    main()
