from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from cnnkit.metrics.confusion import ConfusedPair, Normalize, confusion_order, most_confused, most_confused_ranges, normalized
from cnnkit.metrics.counts import confusion_counts

CLASSES = ("ant", "bee", "cat")


def test_largest_counts_come_first_then_largest_shares() -> None:
    table = np.array([[90, 3, 7], [7, 0, 0], [0, 0, 5]])
    assert most_confused(table, CLASSES) == [
        ConfusedPair("bee", "ant", 7, 1.0),
        ConfusedPair("ant", "cat", 7, 0.07),
        ConfusedPair("ant", "bee", 3, 0.03),
    ]
    assert table[0, 0] == 90, "the given table must stay unchanged"


def test_the_limit_bounds_the_number_of_pairs() -> None:
    assert len(most_confused(np.ones((3, 3), dtype=np.int64), CLASSES, limit=2)) == 2


def test_a_perfect_table_has_no_pairs() -> None:
    assert most_confused(np.eye(3, dtype=np.int64), CLASSES) == []


@pytest.mark.parametrize("normalize", ["true", "pred", "all", "none"])
def test_normalized_equals_scikit_learn(normalize: Normalize) -> None:
    random = np.random.default_rng(0)
    labels, predicted = random.integers(4, size=50), random.integers(1, 4, size=50)
    table = confusion_counts(labels, predicted, 5)
    expected = confusion_matrix(labels, predicted, labels=range(5), normalize=None if normalize == "none" else normalize)
    np.testing.assert_array_equal(normalized(table, normalize), expected)


def test_confused_classes_are_neighbours() -> None:
    table = np.eye(6, dtype=np.int64) * 10
    table[0, 4] = table[4, 0] = table[1, 3] = 3
    order = confusion_order(table).tolist()
    assert sorted(order) == list(range(6))
    assert abs(order.index(0) - order.index(4)) == 1
    assert abs(order.index(1) - order.index(3)) == 1
    assert order[-2:] == [2, 5], "classes without a confusion come last"


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_small_and_perfect_tables_keep_their_order(size: int) -> None:
    assert confusion_order(np.eye(size, dtype=np.int64)).tolist() == list(range(size))


def test_the_most_confused_ranges_are_disjoint_and_hold_most_mistakes() -> None:
    table = np.eye(20, dtype=np.int64) * 99
    table[3, 4] = 7
    table[12, 10] = 9
    table[2, 18] = 50
    assert most_confused_ranges(table, 5, 3) == [0, 8]
    assert most_confused_ranges(np.eye(3, dtype=np.int64), 5, 3) == []
