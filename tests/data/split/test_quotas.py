from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from cnnkit.data.columns import Codes, Texts
from cnnkit.data.source import SPLITS
from cnnkit.data.split.quotas import NO_SPLIT, fill_quotas, hash_position, hash_positions, quotas
from cnnkit.data.split.units import Units

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


@pytest.mark.parametrize(
    ("number", "shares", "val", "test"),
    [
        (100, SHARES, 15, 15),
        (10, SHARES, 2, 2),  # 1.5 is rounded up
        (3, SHARES, 1, 1),
        (7, {"train": 0.8, "val": 0.2, "test": 0.0}, 1, 0),
        (3, {"train": 0.05, "val": 0.5, "test": 0.45}, 1, 1),  # train keeps one image
    ],
)
def test_quotas_are_rounded_shares(number: int, shares: dict[str, float], val: int, test: int) -> None:
    assert quotas(number, shares) == {"val": val, "test": test}


def fill(labels: Sequence[str], units: Sequence[str], seed: int, held: Mapping[str, str]) -> tuple[dict[str, str], Counter[str]]:
    """Return the split of every unit by name, and the moved units."""
    columns = Units.of(units)
    kept = np.array([SPLITS.index(held[name]) if name in held else NO_SPLIT for name in columns.names], np.int8)
    splits, moved = fill_quotas(Codes.of(labels), columns, SHARES, seed, kept)
    return {name: SPLITS[split] for name, split in zip(columns.names, splits.tolist(), strict=True)}, moved


def test_test_and_val_take_the_units_of_the_smallest_hashes() -> None:
    units = [f"unit {number}" for number in range(40)]
    splits, moved = fill(["a"] * 40, units, 7, {})
    by_first = sorted(units, key=lambda unit: hash_position(7, unit, 0))
    by_second = sorted(by_first[6:], key=lambda unit: hash_position(7, unit, 1))
    assert {unit for unit in units if splits[unit] == "test"} == set(by_first[:6])
    assert {unit for unit in units if splits[unit] == "val"} == set(by_second[:6])
    assert not moved


def test_held_units_keep_their_split_and_count() -> None:
    units = [f"unit {number}" for number in range(40)]
    held = dict.fromkeys(units[:4], "test")
    splits, _ = fill(["a"] * 40, units, 7, held)
    assert [unit for unit in units[:4] if splits[unit] == "test"] == units[:4]
    assert sum(split == "test" for split in splits.values()) == 6


def test_a_shared_unit_moves_only_if_both_classes_can_spare_it() -> None:
    labels, units = ["a"] * 9 + ["b"] * 9, [*"uuuvvvwww", *"xxxyyywww"]
    splits, moved = fill(labels, units, 0, {})
    for label in "ab":
        assert {splits[unit] for its, unit in zip(labels, units, strict=True) if its == label} == set(SHARES), (splits, moved)


def test_the_two_hashes_of_a_name_differ() -> None:
    assert hash_position(0, "a", 0) != hash_position(0, "a", 1)
    assert 0 <= hash_position(0, "a", 1) < 1


def test_positions_of_many_names_are_those_of_each() -> None:
    names = Texts.of(["a", "ä", "\udcff", *map(str, range(50))])
    expected = [[hash_position(3, name, 0), hash_position(3, name, 1)] for name in names]
    assert hash_positions(3, names).tolist() == expected
