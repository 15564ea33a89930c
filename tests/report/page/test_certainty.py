from __future__ import annotations

from dataclasses import replace

import pytest

from cnnkit.report.page.certainty import certainty, reliability, risk_chart
from cnnkit.report.page.chart import BOTTOM, HEIGHT
from cnnkit.report.page.facts import ModelFacts

MODEL = ModelFacts("best.safetensors", 1, "ab", 2, 1.0)
SHARE = {"value": 0.04, "low": 0.03, "high": 0.05}
LOWER = {"value": 0.01, "low": 0.005, "high": 0.015}
BINS = [{"low": 0.8, "high": 1.0, "count": 10, "confidence": 0.9, "accuracy": {"value": 0.7, "low": 0.6, "high": 0.8}}]
MEASURED = {"ece": SHARE, "loss": SHARE, "bins": BINS, "histogram": [10]}
FIT = {
    "split": "val",
    "n": 1234,
    "temperature": 1.5,
    "loss_before": 0.5,
    "loss_after": 0.4,
    "reason": "",
    "ece_before": SHARE,
    "ece_after": LOWER,
}
EFFECT = {
    "temperature": 1.5,
    "ece_before": SHARE,
    "ece_after": LOWER,
    "change": "fell",
    "before": MEASURED,
    "after": MEASURED,
    "fitted_on": FIT,
}


def test_the_temperature_is_described_with_its_effect(make_metrics):
    model = replace(MODEL, temperature=1.5)
    assert certainty(make_metrics(calibration=EFFECT), model) == [
        "The logits are divided by the temperature 1.500, fitted on 1,234 val images.",
        "The calibration error is 4.0 % (3.0 to 5.0) without the temperature and 1.0 % (0.5 to 1.5) with it: clearly lower.",
    ]
    alone = ["The logits are divided by the temperature 1.500."]
    assert certainty(make_metrics(calibration=EFFECT | {"fitted_on": None}), model) == alone
    assert certainty(None, model) == alone


def test_the_reason_for_temperature_1_is_given(make_metrics):
    assert certainty(None, MODEL) == ["The probabilities are the network's own, with temperature 1: no temperature was fitted."]
    why = EFFECT | {"temperature": 1.0, "change": "none", "fitted_on": FIT | {"reason": "val has 9 images"}}
    assert certainty(make_metrics(calibration=why), MODEL) == [
        "The probabilities are the network's own, with temperature 1: val has 9 images."
    ]


def test_the_rules_of_the_model_are_described():
    counts = {"n": 2000, "split": "val", "coverage": 0.75, "errors": 9, "confidence": 0.95, "bound": 0.0195, "risk": 0.02}
    rules = {"abstention": {"threshold": 0.8, **counts}, "label_sets": {"threshold": 0.1, "coverage": 0.95, "n": 2000, "split": "val"}}
    _, abstention, sets = certainty(None, replace(MODEL, rules=rules))
    assert "below a probability of 80.0 %. Of 2,000 val images it accepted 75.0 %, of which 9 were wrong" in abstention
    assert "95.0 % confidence, at most 1.9 % of later predictions are wrong" in abstention
    assert "the true class of at least 95.0 % of images (threshold from 2,000 val images)" in sets


@pytest.mark.parametrize(
    ("temperature", "names"),
    [
        (1.5, ["perfect", "without the temperature", "with 95 % intervals"]),
        (1.0, ["perfect", "with 95 % intervals"]),
    ],
)
def test_reliability_has_a_second_line_with_a_temperature(make_metrics, temperature, names):
    drawn = reliability(make_metrics(reliability=BINS, calibration=EFFECT | {"temperature": temperature}))
    assert drawn
    assert [stroke.name for stroke in drawn.strokes] == names
    assert drawn.description == "predictions in 1 group by confidence; the mean confidence is 20.0 points above the accuracy"


def test_the_axes_of_a_confident_model_are_stretched(make_metrics):
    confident = [BINS[0] | {"confidence": 0.99, "accuracy": {"value": 1.0, "low": 0.7, "high": 1.0}}]
    drawn = reliability(make_metrics(reliability=confident, calibration=EFFECT | {"temperature": 1.0}))
    plain = reliability(make_metrics(reliability=BINS, calibration=EFFECT | {"temperature": 1.0}))
    assert drawn
    assert plain
    assert ("stretched" in drawn.y_label, "stretched" in plain.y_label) == (True, False)
    assert next(label for _, label in plain.x_ticks) == "0 %"
    assert {"90 %", "99 %", "100 %"} <= {label for _, label in drawn.y_ticks}
    assert drawn.strokes[-1].whiskers[0][1] == HEIGHT - BOTTOM, "the axis must begin at the lowest end of an interval"


def test_there_is_no_chart_without_images(make_metrics):
    assert reliability(make_metrics(reliability=[])) is None
    assert risk_chart(make_metrics(risk_coverage=[])) is None
    none_accepted = {"coverage": 0.0, "threshold": 1.0, "answered": 0, "errors": 0, "risk": {"value": None, "low": 0.0, "high": 1.0}}
    assert risk_chart(make_metrics(risk_coverage=[none_accepted])) is None


def test_rows_of_one_coverage_share_a_point_of_the_risk_chart(make_metrics):
    row = {"coverage": 1.0, "threshold": 0.5, "answered": 9, "errors": 1, "risk": SHARE}
    drawn = risk_chart(make_metrics(risk_coverage=[row, row, row | {"coverage": 0.5}]))
    assert drawn
    assert drawn.description == "4.0 % wrong of the most confident 100.0 %, 4.0 % wrong of the most confident 50.0 %"
