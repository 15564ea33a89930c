from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnkit.report.page.metrics import baselines_line, class_rows, headline, metric_rows
from cnnkit.run_dir import StoredMetrics

SHARE = {"value": 0.9, "low": 0.85, "high": 0.94}
UNDEFINED = {"value": None, "low": 0.0, "high": 1.0}
BASELINE = {
    "name": "majority",
    "summary": "always predicting ant",
    "accuracy": {"value": 0.5, "low": 0.4, "high": 0.6},
    "trained_on": 0,
    "difference": SHARE,
    "only_model_right": 9,
    "only_baseline_right": 1,
    "mcnemar_p": 0.01,
    "beaten": True,
}
ENDS = {f"{name}_{end}": value for name in ("precision", "recall", "f1") for end, value in (("low", 0.0), ("high", 1.0))}
VALUES: dict[str, Any] = {
    "n": 1200,
    **dict.fromkeys(("accuracy", "macro_f1"), SHARE),
    "loss": {"value": 0.5, "low": None, "high": None},
    "top5_accuracy": None,
    "top_k_accuracy": {"k": 3, **SHARE},
    "weighted_f1": 0.8,
    "weighted_f1_low": 0.7,
    "weighted_f1_high": 0.9,
    **dict.fromkeys(("balanced_accuracy", "roc_auc", "average_precision", "brier", "ece"), UNDEFINED),
    "baselines": [BASELINE],
    "per_class": [
        {
            "class": "ant",
            "precision": 1.0,
            "recall": 0.9,
            "f1": 0.95,
            "support": 40,
            "few": False,
            **ENDS,
            "recall_low": 0.769,
            "recall_high": 0.96,
        },
        {"class": "bee", "precision": None, "recall": None, "f1": None, "support": 0, "few": True, **ENDS},
    ],
}


@pytest.fixture
def metrics(make_metrics) -> StoredMetrics:
    return make_metrics(**VALUES)


def test_every_defined_score_is_a_row_with_its_interval(metrics):
    rows = {row.name: (row.value, row.interval) for row in metric_rows(metrics)}
    assert rows == {
        "accuracy": ("90.0 %", "85.0 to 94.0"),
        "top-3 accuracy": ("90.0 %", "85.0 to 94.0"),
        "macro F1": ("90.0 %", "85.0 to 94.0"),
        "weighted F1": ("80.0 %", "70.0 to 90.0"),
        "loss (nats)": ("0.500", ""),
        "always predicting ant": ("50.0 %", "40.0 to 60.0"),
    }


def test_every_score_of_a_stored_evaluation_is_a_row(make_metrics):
    everything = make_metrics(top5_accuracy=SHARE, top_k_accuracy={"k": 3, **SHARE})
    scores = {name for name, field in type(everything).model_fields.items() if "Estimate" in str(field) or "StoredShare" in str(field)}
    assert {row.key for row in metric_rows(everything)} == {*scores, "top_k_accuracy", "weighted_f1", "baseline"}


def test_top_5_accuracy_has_one_row(make_metrics):
    metrics = make_metrics(top5_accuracy=SHARE, top_k_accuracy={"k": 5, **SHARE})
    assert [row.name for row in metric_rows(metrics)].count("top-5 accuracy") == 1


def test_the_headline_is_the_accuracy_with_its_interval(metrics):
    assert headline(metrics) == "90.0 % of 1,200 test images right (95 % interval 85.0 to 94.0 %)"


def test_the_baselines_stand_in_one_line(metrics):
    assert baselines_line(metrics) == "always predicting ant: 50.0 %"


def test_classes_have_a_bar_and_sort_values(metrics):
    ant, bee = class_rows(metrics, np.array([[36, 4], [0, 0]]))
    assert (ant.missed, ant.false_alarms, ant.few, ant.interval) == (4, 0, False, "76.9 to 96.0")
    assert (bee.recall, bee.few, bee.false_alarms) == ("-", True, 4)
    assert bee.order["recall"] < 0 < ant.order["recall"]
