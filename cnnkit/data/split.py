"""Who trains and who tests: a stratified split that is a pure function of the seed and the images' content.

The order inside a class comes from hashing content, so file names and listing order play no part, and exact copies of
an image always land on the same side, whatever class they are filed under.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cnnkit.data.source import SPLITS, TEST, TRAIN, VAL, Record
from cnnkit.errors import DataError


@dataclass(frozen=True)
class Sample:
    """One readable image with its side: a row of split.csv; `row` is its place in the store."""

    path: str
    label: str
    split: str
    sha256: str
    row: int


def assign_splits(records: Sequence[Record], hashes: Sequence[str], shares: Sequence[float], seed: int) -> list[str]:
    """Return the split of every record, train, val or test.

    Records that bring a split keep it. If the source fixes train and test but not val, val is taken out of train; if it
    fixes train and val, there is no test. Raises `DataError` if a class is too small for the splits asked for.
    """
    fixed = {record.split for record in records if record.split is not None}
    wanted: dict[str, float] = dict(zip(SPLITS, (*shares, 0.0), strict=False))
    if fixed == {TRAIN}:
        fixed = set()
    if not fixed:
        return _draw(records, hashes, wanted, seed)
    if VAL in fixed:
        return [record.split or TRAIN for record in records]
    train = [index for index, record in enumerate(records) if record.split != TEST]
    total = wanted[TRAIN] + wanted[VAL]
    drawn = _draw(
        [records[i] for i in train], [hashes[i] for i in train], {TRAIN: wanted[TRAIN] / total, VAL: wanted[VAL] / total, TEST: 0.0}, seed
    )
    splits = [TEST] * len(records)
    for index, split in zip(train, drawn, strict=True):
        splits[index] = split
    return splits


def _draw(records: Sequence[Record], hashes: Sequence[str], shares: dict[str, float], seed: int) -> list[str]:
    """Fill test, then val, then train, class by class, each in its order of hashes."""
    home: dict[str, str] = {}  # content -> the class it is counted in
    for record, content in zip(records, hashes, strict=True):
        home[content] = min(home.get(content, record.label), record.label)
    by_class: defaultdict[str, list[str]] = defaultdict(list)
    for content, label in home.items():
        by_class[label].append(content)
    needed = [split for split in SPLITS if shares[split] > 0]
    images = Counter(record.label for record in records)
    side: dict[str, str] = {}
    for label in images:
        contents = sorted(by_class[label], key=lambda content: hashlib.sha256(f"{seed}:{content}".encode()).digest())
        if len(contents) < len(needed):
            plural = "image" if images[label] == 1 else "images"
            copies = "" if images[label] == len(contents) else f" ({len(contents)} once copies are left out)"
            raise DataError(
                f"class {label!r} has {images[label]} {plural}{copies}; {len(needed)} are needed, one each for {', '.join(needed)}: "
                f"add images, or leave the class out with --classes"
            )
        test, val = (max(1, round(shares[split] * len(contents))) if shares[split] else 0 for split in (TEST, VAL))
        while test + val >= len(contents):  # a tiny class: train keeps at least one
            test, val = (test - 1, val) if test >= val else (test, val - 1)
        side.update(dict.fromkeys(contents[:test], TEST))
        side.update(dict.fromkeys(contents[test : test + val], VAL))
        side.update(dict.fromkeys(contents[test + val :], TRAIN))
    return [side[content] for content in hashes]
