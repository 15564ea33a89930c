from __future__ import annotations

import numpy as np

from cnnkit.data.source import Record
from cnnkit.data.split.units import MAX_NAME_LENGTH, name_units, units_per_class


def test_copies_and_groups_share_the_name_of_their_smallest_group_or_content() -> None:
    records = [Record(f"{row}.png", "a", None, group) for row, group in enumerate([None, None, "g2", "g1", "g1", None])]
    keys = [letter * 64 for letter in "fbcdea"]
    assert name_units(records, keys, np.array([[0, 1], [2, 3]])) == ["b" * MAX_NAME_LENGTH] * 2 + ["g1"] * 3 + ["a" * MAX_NAME_LENGTH]


def test_names_do_not_depend_on_the_order() -> None:
    records = [Record(f"{row}.png", "a") for row in range(4)]
    keys = [letter * 64 for letter in "dbca"]
    forth = name_units(records, keys, np.array([[0, 1], [1, 2]]))
    back = name_units(records[::-1], keys[::-1], np.array([[3, 2], [2, 1]]))
    assert forth == back[::-1]


def test_a_unit_counts_in_all_its_classes() -> None:
    records = [Record("1", "a"), Record("2", "a"), Record("3", "b")]
    assert units_per_class(records, ["x", "x", "x"]) == {"a": 1, "b": 1}
    assert units_per_class(records, ["x", "y", "y"]) == {"a": 2, "b": 1}
