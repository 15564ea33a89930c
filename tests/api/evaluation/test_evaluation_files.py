from __future__ import annotations

import numpy as np
import pytest

import cnnkit
from cnnkit.api.evaluation.evaluation_files import COLUMNS, prediction_rows


def test_a_row_has_the_true_class_the_prediction_and_its_loss(trained):
    found = cnnkit.evaluate(trained.run)
    rows = list(prediction_rows(found, all_probabilities=False))
    assert [tuple(row) for row in rows] == [COLUMNS] * 9
    assert [row["path"] for row in rows] == list(found.paths)
    for row, label, shares in zip(rows, found.labels, found.probabilities, strict=True):
        assert (row["true"], row["predicted"]) == (found.report.classes[label], found.report.classes[shares.argmax()])
        assert row["probability"] == shares.max()
        assert row["loss"] == pytest.approx(-np.log(shares[label]), abs=1e-6)


def test_all_probabilities_are_columns_that_sum_to_one(trained, read_rows):
    found = cnnkit.evaluate(trained.run, all_probabilities=True)
    assert found.folder is not None
    rows = read_rows(found.folder / "predictions.csv")
    assert list(rows[0]) == [*COLUMNS, "ants", "bees", "wasps"]
    assert [sum(float(row[name]) for name in ("ants", "bees", "wasps")) for row in rows] == pytest.approx([1.0] * 9)
