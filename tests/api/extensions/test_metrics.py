"""Metrics of other packages: measured with an interval, recorded, shown, and refused before any image is read."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

import cnnkit
from cnnkit.api.extensions.metrics import measure_metrics, named_metrics
from cnnkit.errors import ConfigError, PluginError
from cnnkit.metrics.units import Units
from cnnkit.registry import METRICS

Install = Callable[..., None]
ACCURACY = """
from cnnkit import Metric
def compute(labels, predicted, probabilities, *, factor: float = 1.0):
    {body}
score = Metric(compute=compute, summary="share of right predictions", bounds={bounds})
"""
RIGHT = "return factor * (labels == predicted).mean()"


def install(install_package: Install, body: str = RIGHT, bounds: str = "(0.0, 1.0)") -> None:
    install_package("acme-score", "score", "acme_score:score", ACCURACY.format(body=body, bounds=bounds), group=METRICS)


def predictions(n: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (n,) and probabilities (n, 3), of which four in five are right."""
    labels = np.arange(n) % 3
    predicted = np.where(np.arange(n) % 5 == 0, (labels + 1) % 3, labels)
    return labels, np.eye(3, dtype=np.float32)[predicted]


def test_a_score_has_its_interval_and_its_origin(install_package: Install) -> None:
    install(install_package)
    (score,) = measure_metrics(named_metrics(["score"], 3), *predictions(), Units.single(100))
    assert score.estimate.value == pytest.approx(0.8)
    assert 0.70 < score.estimate.low < 0.74
    assert 0.86 < score.estimate.high < 0.89
    assert (score.package, score.version, score.options) == ("acme-score", "1.0", {"factor": 1.0})
    (again,) = measure_metrics(named_metrics(["score"], 3), *predictions(), Units.single(100))
    assert again == score


def test_units_widen_the_interval_which_stays_inside_the_bounds(install_package: Install) -> None:
    install(install_package)
    metrics, (labels, probabilities) = named_metrics(["score"], 3), predictions()
    (plain,) = measure_metrics(metrics, labels, probabilities, Units.single(100))
    (grouped,) = measure_metrics(metrics, labels, probabilities, Units.of((np.arange(100) % 5).tolist()))
    assert grouped.estimate.low < plain.estimate.low
    assert grouped.estimate.high == 1.0


def test_a_score_without_a_spread_has_no_interval(install_package: Install) -> None:
    install(install_package)
    labels = np.arange(9) % 3
    (score,) = measure_metrics(named_metrics(["score"], 3), labels, np.eye(3, dtype=np.float32)[labels], Units.single(9))
    assert score.to_dict() | {"package": ""} == {
        "value": 1.0, "low": None, "high": None, "summary": "share of right predictions", "package": "", "version": "1.0",
        "options": {"factor": 1.0},
    }  # fmt: skip


def test_the_arrays_of_the_caller_stay_as_they_are(install_package: Install) -> None:
    install(install_package, "labels[:] = 0; probabilities[:] = 0; return 0.5")
    labels, probabilities = predictions()
    measure_metrics(named_metrics(["score"], 3), labels, probabilities, Units.single(100))
    assert labels[1] == 1
    assert probabilities.sum() == 100


@pytest.mark.parametrize(
    ("body", "bounds", "message"),
    [
        ("return None", "None", "its compute returns a NoneType; it must return one number"),
        ("return labels == predicted", "None", "its compute returns a ndarray; it must return one number"),
        ("return True", "None", "its compute returns a bool"),
        ("return float('inf')", "None", "its compute returns inf; it must return a finite number, or NaN if the images do not define it"),
        ("return 1.5", "(0.0, 1.0)", "its compute returns 1.5; it must return a number from 0 to 1, or NaN"),
        ("return 1 / 0", "None", "fails with factor=1.0: ZeroDivisionError: division by zero; check its options, or choose another metric"),
    ],
)
def test_a_wrong_result_is_refused_by_a_trial(install_package: Install, body: str, bounds: str, message: str) -> None:
    install(install_package, body, bounds)
    with pytest.raises(PluginError, match=rf"^metric 'score' of acme-score 1\.0 (with factor=1\.0: )?{message}"):
        named_metrics(["score"], 3)


def test_a_metric_that_is_named_twice_is_refused(install_package: Install) -> None:
    install(install_package)
    with pytest.raises(ConfigError, match="--metric score is given twice; leave one out"):
        named_metrics(["score", "score"], 3)
    assert len(named_metrics(["score", "score:factor=0.5"], 3)) == 2


def test_eval_records_and_shows_the_metric(cli, trained, install_package: Install) -> None:
    install(install_package)
    result = cli("eval", "--metric", "score", "--metric", "score:factor=0.5")
    assert result.code == 0, result.err
    folder = trained.run / "eval/test"
    stored = json.loads((folder / "metrics.json").read_text())
    assert list(stored["metrics"]) == ["score", "score:factor=0.5"]
    score = stored["metrics"]["score"]
    assert score["value"] == pytest.approx(stored["accuracy"]["value"])
    assert score["package"] == "acme-score"
    for text in (result.out, (folder / "report.txt").read_text()):
        (row,) = [line for line in text.splitlines() if line.startswith("score:factor=0.5 ")]
        assert f"{score['value'] / 2:.3f}" in row
    assert cli("report").code == 0
    page = (trained.run / "report.html").read_text()
    assert "score:factor=0.5" in page
    assert "metrics" not in cli("eval", "--json").json()


def test_a_name_that_is_not_installed_opens_no_test_split(cli, trained, install_package: Install) -> None:
    install(install_package)
    result = cli("eval", "--metric", "scor")
    assert (result.code, result.out) == (2, "")
    assert "no metric named 'scor' is installed; did you mean 'score'?" in result.err
    assert not (trained.run / "eval/opened.json").exists()


def test_evaluate_takes_metrics_in_python(trained, install_package: Install) -> None:
    install(install_package)
    result = cnnkit.evaluate(trained.run, metrics=["score"])
    assert result.scores[0].estimate.value == pytest.approx(result.report.accuracy.value)
    assert "score" in result._repr_html_()
