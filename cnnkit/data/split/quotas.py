"""Quotas: every class fills val and test with its units of the smallest hashes.

Each unit has two hashes of its name. Test takes the units of the smallest first hash until every class has its share. Val takes the
units of the smallest second hash out of the rest. So the shares hold for every class, and an added image moves only units at the border:
at most one unit between test and the other splits, and at most two between val and train. docs/benchmarks/split_stability.py measures it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from cnnkit.data.source import SPLITS, TEST, TRAIN, VAL

Images = Counter[str]  # the number of images of each class


def fill_quotas(
    labels: Sequence[str], units: Sequence[str], shares: Mapping[str, float], seed: int, held: Mapping[str, str]
) -> tuple[dict[str, str], Counter[str]]:
    """Return the split of every unit, and the number of units by class that were moved since a split had no image of the class.

    `labels` and `units` (N,) are the class and the unit of every image. `shares` has the share of every split and sums to 1. `held`
    units keep their split and count for its quota.
    """
    images: defaultdict[str, Images] = defaultdict(Counter)
    for label, unit in zip(labels, units, strict=True):
        images[unit][label] += 1
    quota = {label: quotas(number, shares) for label, number in Counter(labels).items()}
    splits = dict(held)
    free = [unit for unit in images if unit not in held]
    for part, split in enumerate((TEST, VAL)):
        missing = Counter({label: numbers[split] for label, numbers in quota.items()})
        for unit, kept in held.items():
            missing.subtract(images[unit] if kept == split else {})
        for unit in sorted(free, key=lambda unit, part=part: (hash_position(seed, unit, part), unit)):
            if unit not in splits and _helps(images[unit], missing):
                splits[unit] = split
                missing.subtract(images[unit])
    for unit in free:
        splits.setdefault(unit, TRAIN)
    return splits, _fill_missing(images, splits, shares, seed, set(held))


def quotas(number: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Return how many of the `number` images of a class val and test get: rounded shares, but at least 1 if the share is not 0.

    The larger quota gives way if train would have no image.
    """
    wanted = {split: max(1, int(number * shares[split] + 0.5)) if shares[split] else 0 for split in (TEST, VAL)}
    while sum(wanted.values()) >= number and max(wanted.values()) > 1:
        wanted[max(wanted, key=lambda split: wanted[split])] -= 1
    return wanted


def hash_position(seed: int, name: str, part: int = 0) -> float:
    """Return the position of `name` in [0, 1), a uniform hash of `seed` and `name`; the positions of `part` 0 and 1 are independent."""
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[8 * part : 8 * part + 8]) / 2**64


def _helps(unit: Images, missing: Images) -> bool:
    """Return whether a split that lacks `missing` images is nearer to its quotas, summed over classes, with the images of `unit`."""
    return sum(abs(missing[label] - number) - abs(missing[label]) for label, number in unit.items()) < 0


def _fill_missing(
    images: Mapping[str, Images], splits: dict[str, str], shares: Mapping[str, float], seed: int, held: set[str]
) -> Counter[str]:
    """Move units in `splits` so that every class has a unit in every split with a share; return the number of moves by class.

    A large unit may be worse than none for a quota, and leave a split without its class. The unit with the fewest images moves, then
    the unit of the smallest hash, from a split that has more units of the class.
    """
    members: defaultdict[str, list[str]] = defaultdict(list)
    count: Counter[tuple[str, str]] = Counter()  # the units of each class in each split
    for unit, its in images.items():
        for label in its:
            members[label].append(unit)
            count[label, splits[unit]] += 1
    moves: Counter[str] = Counter()
    for label, inside in sorted(members.items()):  # sorted, as two classes may share a unit and the first class moves it
        for split in reversed([split for split in SPLITS if shares[split] > 0]):
            if count[label, split]:
                continue
            spare = [unit for unit in inside if unit not in held and all(count[other, splits[unit]] > 1 for other in images[unit])]
            if not spare:
                continue
            moved = min(spare, key=lambda unit: (images[unit].total(), hash_position(seed, unit), unit))
            for other in images[moved]:
                count[other, splits[moved]] -= 1
                count[other, split] += 1
            splits[moved] = split
            moves[label] += 1
    return moves
