from __future__ import annotations

import numpy as np

from cnnkit.report.page.metrics import class_rows, headline, metric_rows

SHARE = {"value": 0.9, "low": 0.85, "high": 0.94}
METRICS = {
    "split": "test",
    "n": 1200,
    "accuracy": SHARE,
    "loss": {"value": 0.5, "low": None, "high": None},
    "top5_accuracy": None,
    "top_k_accuracy": {"k": 3, **SHARE},
    "weighted_f1": 0.8,
    "weighted_f1_low": 0.7,
    "weighted_f1_high": 0.9,
    "roc_auc": {"value": None, "low": 0.0, "high": 1.0},
    "some_new_score": SHARE,
    "majority_baseline": 0.5,
    "baselines": [{"summary": "always answering ant", "accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}, "beaten": True}],
    "per_class": [
        {"class": "ant", "precision": 1.0, "recall": 0.9, "f1": 0.95, "support": 40},
        {"class": "bee", "precision": None, "recall": None, "f1": None, "support": 0},
    ],
}


def test_every_score_with_an_interval_is_a_row_also_one_that_is_not_known_yet():
    rows = {row.name: (row.value, row.interval) for row in metric_rows(METRICS)}
    assert rows == {
        "accuracy": ("90.0 %", "85.0 to 94.0"),
        "top-3 accuracy": ("90.0 %", "85.0 to 94.0"),
        "weighted F1": ("80.0 %", "70.0 to 90.0"),
        "loss (nats)": ("0.500", ""),
        "some new score": ("90.0 %", "85.0 to 94.0"),
        "always answering ant": ("50.0 %", "40.0 to 60.0"),
    }


def test_top_5_is_not_said_twice():
    metrics = METRICS | {"top5_accuracy": SHARE, "top_k_accuracy": {"k": 5, **SHARE}}
    assert [row.name for row in metric_rows(metrics)].count("top-5 accuracy") == 1


def test_headline():
    assert headline(METRICS) == "90.0 % of 1,200 test images right (95 % interval 85.0 to 94.0 %)"


def test_classes_have_a_bar_and_what_they_are_sorted_by():
    ant, bee = class_rows(METRICS, np.array([[36, 4], [0, 0]]))
    assert (ant.missed, ant.false_alarms, ant.few, ant.interval) == (4, 0, False, "76.9 to 96.0")
    assert (bee.recall, bee.few, bee.false_alarms) == ("-", True, 4)
    assert bee.order["recall"] < 0 < ant.order["recall"]
