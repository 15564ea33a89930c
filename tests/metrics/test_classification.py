from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from cnnkit.errors import DataError
from cnnkit.metrics.classification import ClassificationReport, _rank, classification_report
from cnnkit.metrics.proportion import wilson

CLASSES = ("ant", "bee", "cat")
LABELS = np.array([0, 0, 1, 1, 1])
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.1, 0.8, 0.1], [0.1, 0.7, 0.2], [0.6, 0.3, 0.1]])


def random_report(num_classes: int, n: int, seed: int = 0) -> tuple[ClassificationReport, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=n)
    probabilities = rng.dirichlet(np.ones(num_classes), size=n)
    return classification_report(labels, probabilities, [f"c{i}" for i in range(num_classes)], split="test"), labels, probabilities


def test_a_small_case_by_hand() -> None:
    report = classification_report(LABELS, PROBABILITIES, CLASSES, split="val", majority_class="bee")
    assert (report.split, report.n) == ("val", 5)
    assert report.accuracy == wilson(3, 5)
    assert report.confusion.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert report.balanced_accuracy.value == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert report.macro_f1.value == pytest.approx((2 / 4 + 4 / 6) / 2)
    assert report.loss.value == pytest.approx(-np.log([0.7, 0.2, 0.8, 0.7, 0.3]).mean())
    assert (report.majority_baseline, report.majority_class) == (0.6, "bee")
    assert [score.support for score in report.per_class] == [2, 3, 0]


@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_learn(seed: int) -> None:
    report, labels, probabilities = random_report(8, 300, seed)
    predicted = probabilities.argmax(axis=1)
    expected: Any = sk.classification_report(labels, predicted, output_dict=True)
    assert report.accuracy.value == pytest.approx(expected["accuracy"], abs=1e-12)
    assert report.macro_f1.value == pytest.approx(expected["macro avg"]["f1-score"], abs=1e-12)
    assert report.weighted_f1 == pytest.approx(expected["weighted avg"]["f1-score"], abs=1e-12)
    assert report.loss.value == pytest.approx(sk.log_loss(labels, probabilities, labels=range(8)), abs=1e-12)
    assert report.top5_accuracy is not None
    assert report.top5_accuracy.value == pytest.approx(sk.top_k_accuracy_score(labels, probabilities, k=5), abs=1e-12)
    one_hot = np.eye(8)[labels]
    areas = (sk.roc_auc_score(one_hot, probabilities, average="macro"), sk.average_precision_score(one_hot, probabilities, average="macro"))
    assert (report.roc_auc.value, report.average_precision.value) == pytest.approx(areas, abs=1e-12)
    squares = np.mean([8 * sk.brier_score_loss(one_hot[:, k], probabilities[:, k]) for k in range(8)])
    assert report.brier.value == pytest.approx(squares, abs=1e-12)
    for index, score in enumerate(report.per_class):
        row = expected[str(index)]
        found = (score.precision, score.recall, score.f1, score.support)
        assert found == pytest.approx((row["precision"], row["recall"], row["f1-score"], row["support"]), abs=1e-12)


def test_metrics_json_has_the_promised_keys() -> None:
    report = classification_report(LABELS, PROBABILITIES, CLASSES, split="test")
    written = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    for key in ("accuracy", "loss", "macro_f1"):
        assert list(written[key]) == ["value", "low", "high"]
    assert list(written["per_class"][0])[:5] == ["class", "precision", "recall", "f1", "support"]
    assert written["split"] == "test"
    assert "confusion" not in written
    assert "classes" not in written
    full = report.to_dict(confusion=True)
    assert full["classes"] == ["ant", "bee", "cat"]
    assert full["confusion"] == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert {key: full[key] for key in written} == report.to_dict()


def test_an_undefined_score_is_null() -> None:
    report = classification_report(LABELS, PROBABILITIES, CLASSES, split="test")
    absent = report.to_dict()["per_class"][2]
    assert {key: absent[key] for key in ("class", "precision", "recall", "f1", "support", "few")} == {
        "class": "cat",
        "precision": None,
        "recall": None,
        "f1": None,
        "support": 0,
        "few": True,
    }
    assert [absent[f"{score}_{end}"] for score in ("precision", "recall", "f1") for end in ("low", "high")] == [0, 1] * 3
    mean = np.mean([row["f1"] for row in report.to_dict()["per_class"] if row["f1"] is not None])
    assert report.macro_f1.value == pytest.approx(mean)


def test_one_image_gives_valid_json() -> None:
    report = classification_report([1], [[0.2, 0.7, 0.1]], CLASSES, split="test")
    written = json.dumps(report.to_dict(confusion=True), allow_nan=False)
    assert json.loads(written)["loss"] == {"value": pytest.approx(-math.log(0.7)), "low": None, "high": None}


def test_a_perfect_score_is_not_certain() -> None:
    probabilities = np.eye(3)[[0] * 20 + [1] * 20 + [2] * 20]
    report = classification_report(probabilities.argmax(axis=1), probabilities, CLASSES, split="test")
    exact = wilson(60, 60)
    for estimate in (report.accuracy, report.macro_f1, report.balanced_accuracy):
        assert (estimate.value, estimate.high) == (1.0, 1.0)
        assert estimate.low == pytest.approx(exact.low)


def test_a_perfect_mean_over_unequal_classes_is_less_certain_than_its_accuracy() -> None:
    probabilities = np.eye(2)[[0] * 95 + [1] * 5]
    report = classification_report(probabilities.argmax(axis=1), probabilities, ("many", "few"), split="test")
    assert report.macro_f1.low < report.accuracy.low


def test_every_score_has_an_interval_around_it() -> None:
    report = random_report(8, 300)[0].to_dict()
    estimates = {name: value for name, value in report.items() if isinstance(value, dict)}
    assert {"roc_auc", "average_precision", "brier", "ece", "loss", "top_k_accuracy"} <= set(estimates)
    rows = [(report["weighted_f1_low"], report["weighted_f1"], report["weighted_f1_high"])]
    rows += [(one["low"], one["value"], one["high"]) for one in estimates.values()]
    rows += [(one[f"{name}_low"], one[name], one[f"{name}_high"]) for one in report["per_class"] for name in ("precision", "recall", "f1")]
    assert len(rows) == 1 + 10 + 24
    for low, value, high in rows:
        assert low <= value <= high
        assert low < high


def test_one_class_alone_has_no_areas_under_curves() -> None:
    report = classification_report([0, 0], PROBABILITIES[:2], CLASSES, split="test").to_dict()
    assert report["roc_auc"] == report["average_precision"] == {"value": None, "low": None, "high": None}
    assert report["balanced_accuracy"]["value"] == report["accuracy"]["value"] == 0.5
    json.dumps(report, allow_nan=False)


def test_equal_predictions_for_all_images_have_scores() -> None:
    report = classification_report([0, 1, 2], np.tile([0.5, 0.3, 0.2], (3, 1)), CLASSES, split="test")
    assert (report.roc_auc.value, report.average_precision.value) == pytest.approx((0.5, 1 / 3))
    assert [score.recall for score in report.per_class] == [1, 0, 0]


def test_a_perfect_ranking_is_not_certain() -> None:
    report = classification_report([0] * 20 + [1] * 20, np.repeat(np.eye(2), 20, axis=0), ("ant", "bee"), split="test")
    assert (report.roc_auc.value, report.roc_auc.high) == (1.0, 1.0)
    assert 0.8 < report.roc_auc.low < 0.95
    assert report.average_precision.low == report.roc_auc.low


@pytest.mark.parametrize(("top_k", "expected"), [(2, 2), (5, 5), (8, None)])
def test_top_k_has_the_requested_k(top_k: int, expected: int | None) -> None:
    _, labels, probabilities = random_report(8, 300)
    report = classification_report(labels, probabilities, [str(i) for i in range(8)], split="test", top_k=top_k)
    written = report.to_dict()["top_k_accuracy"]
    assert (written["k"] if written else None) == expected
    if written:
        assert written["value"] == pytest.approx(sk.top_k_accuracy_score(labels, probabilities, k=top_k))
    assert report.top5_accuracy is not None, "top_k must not change the key top5_accuracy"


def test_the_report_uses_given_losses() -> None:
    report = classification_report(LABELS, PROBABILITIES, CLASSES, split="test", losses=[1, 2, 3, 4, 5])
    assert report.loss.value == 3


def test_a_probability_of_zero_costs_much_but_stays_finite() -> None:
    report = classification_report([0, 1], np.array([[0, 1, 0], [0, 1, 0]], dtype=np.float32), CLASSES, split="test")
    assert report.loss.value == pytest.approx(87.34 / 2, abs=0.01)  # float32 ends at 1.2e-38


def test_top5_needs_more_than_five_classes() -> None:
    assert random_report(5, 50)[0].top5_accuracy is None
    assert random_report(5, 50)[0].to_dict()["top5_accuracy"] is None
    assert random_report(6, 50)[0].top5_accuracy is not None


def test_uniform_probabilities_predict_the_first_class() -> None:
    report = classification_report(np.arange(10), np.full((10, 10), 0.1), [str(i) for i in range(10)], split="test")
    assert report.accuracy.value == 0.1
    assert report.top5_accuracy is not None
    assert report.top5_accuracy.value == 0.5


@settings(deadline=None)  # a busy machine is not a failure
@given(st.lists(st.lists(st.sampled_from([0.0, 0.25, 0.5]), min_size=4, max_size=4), min_size=1), st.integers(0, 3))
def test_first_rank_is_the_predicted_class_even_among_equals(rows: list[list[float]], label: int) -> None:
    probabilities = np.array(rows)
    labels = np.full(len(rows), label)
    np.testing.assert_array_equal(_rank(labels, probabilities) == 0, probabilities.argmax(axis=1) == label)


@pytest.mark.parametrize(
    ("labels", "probabilities", "losses", "message"),
    [
        ([], np.zeros((0, 3)), None, "no image to evaluate: the split is empty; .*--split"),
        ([0], [[0.5, 0.5]], None, r"probabilities of shape \(1, 2\) and 3 classes do not fit"),
        ([0, 1], [[1, 0, 0]], None, r"labels of shape \(2,\)"),
        ([3], [[1, 0, 0]], None, "labels range from 3 to 3: with 3 classes"),
        ([0, 0], [[1, 0, 0], [math.nan, 0, 0]], None, "outputs for 1 of 2 images are not probabilities .* first in row 1"),
        ([0], [[4.1, -2.0, 0.3]], None, "or its outputs are logits"),
        ([0], [[1, 0, 0]], [1.0, 2.0], r"losses of shape \(2,\) for 1 images"),
    ],
)
def test_inputs_that_do_not_fit_are_errors(labels: Any, probabilities: Any, losses: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        classification_report(labels, probabilities, CLASSES, split="test", losses=losses)


def test_the_counts_of_a_report_are_read_only() -> None:
    report = classification_report(LABELS, PROBABILITIES, CLASSES, split="test")
    with pytest.raises(ValueError, match="read-only"):
        report.confusion[0, 0] = 9


def test_metrics_load_neither_torch_nor_plots() -> None:
    code = "import sys, cnnkit.metrics.classification, cnnkit.metrics.confusion; print({'torch', 'matplotlib', 'rich'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
