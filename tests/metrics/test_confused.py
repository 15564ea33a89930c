from __future__ import annotations

import numpy as np

from cnnkit.metrics.confusion import ConfusedPair, most_confused

CLASSES = ("ant", "bee", "cat")


def test_largest_counts_come_first_then_largest_shares() -> None:
    table = np.array([[90, 3, 7], [7, 0, 0], [0, 0, 5]])
    assert most_confused(table, CLASSES) == [
        ConfusedPair("bee", "ant", 7, 1.0),
        ConfusedPair("ant", "cat", 7, 0.07),
        ConfusedPair("ant", "bee", 3, 0.03),
    ]
    assert table[0, 0] == 90, "the table that was given must stay as it is"


def test_no_more_than_asked_for() -> None:
    assert len(most_confused(np.ones((3, 3), dtype=np.int64), CLASSES, most=2)) == 2


def test_a_perfect_table_confuses_nothing() -> None:
    assert most_confused(np.eye(3, dtype=np.int64), CLASSES) == []
