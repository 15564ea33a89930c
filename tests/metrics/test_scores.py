from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from cnnkit.metrics import scores
from cnnkit.metrics.counts import Counts, margins

sk: Any = metrics  # its stubs know neither average=None nor zero_division=nan

tables = st.integers(1, 7).flatmap(lambda k: arrays(np.int64, (k, k), elements=st.sampled_from([0, 0, 0, 1, 2, 5, 30])))


def images(table: Counts) -> tuple[list[int], list[int]]:
    """Return one true and one predicted class per counted image."""
    rows, columns = np.nonzero(table)
    repeats = table[rows, columns]
    return np.repeat(rows, repeats).tolist(), np.repeat(columns, repeats).tolist()


@settings(deadline=None)  # a busy machine is not a failure
@given(tables)
def test_every_score_equals_scikit_learn(table: Counts) -> None:
    assume(table.sum() > 0)
    true, predicted = images(table)
    every = range(len(table))
    sums = margins(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of absent classes, which are common in these tables
        pairs = [
            (scores.accuracy(table), sk.accuracy_score(true, predicted)),
            (scores.macro_f1(table), sk.f1_score(true, predicted, average="macro")),
            (scores.macro_f1(table), sk.f1_score(true, predicted, labels=every, average="macro", zero_division=np.nan)),
            (scores.weighted_f1_of(sums), sk.f1_score(true, predicted, average="weighted")),
            (scores.balanced_accuracy_of(sums), sk.balanced_accuracy_score(true, predicted)),
            (scores.precision_of(sums), sk.precision_score(true, predicted, labels=every, average=None, zero_division=np.nan)),
            (scores.recall_of(sums), sk.recall_score(true, predicted, labels=every, average=None, zero_division=np.nan)),
            (scores.f1_of(sums), sk.f1_score(true, predicted, labels=every, average=None, zero_division=np.nan)),
        ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def test_a_class_without_images_and_predictions_changes_no_mean() -> None:
    table = np.array([[3, 1], [2, 4]])
    wider = np.zeros((3, 3), dtype=np.int64)
    wider[:2, :2] = table
    assert scores.macro_f1(wider) == scores.macro_f1(table)
    assert math.isnan(scores.f1_of(margins(wider))[2])


def test_a_class_without_predictions_has_f1_zero_and_counts() -> None:
    table = np.array([[4, 0], [4, 0]])
    sums = margins(table)
    assert math.isnan(scores.precision_of(sums)[1])
    assert scores.f1_of(sums)[1] == 0
    assert scores.macro_f1(table) == (8 / 12) / 2


def test_an_empty_table_has_no_score() -> None:
    empty = np.zeros((3, 3), dtype=np.int64)
    assert math.isnan(scores.accuracy(empty))
    assert math.isnan(scores.macro_f1(empty))


def test_scores_of_several_tables_at_once_equal_those_of_each_table() -> None:
    several = np.random.default_rng(0).integers(0, 4, size=(20, 4, 4))
    expected = [scores.macro_f1(table) for table in several]
    np.testing.assert_array_equal(scores.macro_f1_of(margins(several)), expected)
