from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from cnnkit.errors import DataError
from cnnkit.metrics.counts import confusion_counts, margins


@settings(deadline=None)  # a busy machine is not a failure
@given(st.data(), st.integers(2, 8))
def test_equals_scikit_learn(data: st.DataObject, num_classes: int) -> None:
    pairs = data.draw(st.lists(st.tuples(*[st.integers(0, num_classes - 1)] * 2), min_size=1))
    labels, predicted = zip(*pairs, strict=True)
    expected = confusion_matrix(labels, predicted, labels=range(num_classes))
    np.testing.assert_array_equal(confusion_counts(labels, predicted, num_classes), expected)


def test_rows_are_true_and_columns_predicted() -> None:
    table = confusion_counts([0, 0, 1], [1, 1, 0], 3)
    assert table.tolist() == [[0, 2, 0], [1, 0, 0], [0, 0, 0]]
    assert table.dtype == np.int64


def test_no_image_gives_an_empty_table() -> None:
    assert confusion_counts([], [], 2).tolist() == [[0, 0], [0, 0]]


def test_small_integer_types_do_not_overflow() -> None:
    labels = np.array([199], dtype=np.uint8)
    assert confusion_counts(labels, labels, 200)[199, 199] == 1


@pytest.mark.parametrize(
    ("labels", "predicted", "message"),
    [
        ([0, 1], [0], r"labels of shape \(2,\) and predictions of shape \(1,\)"),
        ([[0]], [[0]], r"must be \(N,\), one per image"),
        ([0.0], [0], "labels have type float64: they must be integers"),
        ([0], [3], r"predictions range from 3 to 3: with 3 classes they must lie in 0\.\.2"),
        ([-1, 2], [0, 0], "labels range from -1 to 2"),
    ],
)
def test_inputs_that_do_not_fit_are_errors(labels: list[int], predicted: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        confusion_counts(labels, predicted, 3)


def test_margins_of_several_tables_at_once() -> None:
    tables = np.arange(8).reshape(2, 2, 2)
    sums = margins(tables)
    assert sums.hits.tolist() == [[0, 3], [4, 7]]
    assert sums.support.tolist() == [[1, 5], [9, 13]]
    assert sums.predicted.tolist() == [[2, 4], [10, 12]]
