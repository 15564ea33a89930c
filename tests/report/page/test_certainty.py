from __future__ import annotations

from dataclasses import replace

from cnnkit.report.page.certainty import certainty, reliability, risk_chart
from cnnkit.report.page.facts import ModelFacts

MODEL = ModelFacts("best.safetensors", 1, "ab", 2, 1.0)
SHARE = {"value": 0.04, "low": 0.03, "high": 0.05}
BINS = [{"count": 10, "confidence": 0.9, "accuracy": {"value": 0.7, "low": 0.6, "high": 0.8}}, {"count": 0}]
EFFECT = {
    "temperature": 1.5,
    "ece_before": SHARE,
    "ece_after": {"value": 0.01, "low": 0.005, "high": 0.015},
    "change": "fell",
    "before": {"bins": BINS},
    "after": {"bins": BINS},
    "fitted_on": {"split": "val", "n": 1234, "reason": ""},
}


def test_what_the_temperature_did():
    assert certainty({"calibration": EFFECT}, replace(MODEL, temperature=1.5)) == [
        "The logits are divided by the temperature 1.500, fitted on 1,234 val images.",
        "Calibration error here: 4.0 % (3.0 to 5.0) without it, 1.0 % (0.5 to 1.5) with it: clearly lower.",
    ]
    assert certainty({}, replace(MODEL, temperature=1.5)) == ["The logits are divided by the temperature 1.500."]


def test_why_there_is_no_temperature():
    assert certainty({}, MODEL) == ["The probabilities are the network's own, with temperature 1: none was fitted."]
    why = {"calibration": {"fitted_on": {"reason": "val has 9 images"}}}
    assert certainty(why, MODEL) == ["The probabilities are the network's own, with temperature 1: val has 9 images."]


def test_rules_of_the_model_are_told():
    counts = {"n": 2000, "split": "val", "coverage": 0.75, "errors": 9, "confidence": 0.95, "bound": 0.0195, "risk": 0.02}
    rules = {"abstention": {"threshold": 0.8, **counts}, "label_sets": {"threshold": 0.1, "coverage": 0.95, "n": 2000, "split": "val"}}
    _, abstention, sets = certainty({}, replace(MODEL, rules=rules))
    assert "below a probability of 80.0 %: of the 2,000 val images 75.0 % are then answered, 9 of them wrongly" in abstention
    assert "95.0 % confidence at most 1.9 % of later answers are wrong" in abstention
    assert "the true one for 95.0 % of images or more (from 2,000 val images)" in sets


def test_reliability_shows_both_where_there_is_a_temperature():
    drawn = reliability({"reliability": BINS, "calibration": EFFECT})
    assert drawn
    assert [stroke.name for stroke in drawn.strokes] == ["perfect", "without the temperature", "as answered, with 95 % intervals"]
    assert drawn.description == "answers in 1 group by confidence; on average 20.0 points too sure"
    alone = reliability({"reliability": BINS})
    assert alone
    assert [stroke.name for stroke in alone.strokes] == ["perfect", "as answered, with 95 % intervals"]


def test_charts_only_of_what_is_there():
    assert reliability({}) is None
    assert reliability({"reliability": [{"count": 0}]}) is None
    assert risk_chart({}) is None
    assert risk_chart({"risk_coverage": [{"answered": 0}]}) is None
