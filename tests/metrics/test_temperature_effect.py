from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import softmax

from cnnkit.errors import DataError
from cnnkit.metrics.calibration import calibration_error, confidence_counts, reliability_bins
from cnnkit.metrics.classification import classification_report
from cnnkit.metrics.temperature import calibrate, log_losses
from cnnkit.metrics.temperature_effect import temperature_effect


@pytest.mark.parametrize("temperature", [0.3, 2.0, 9.0])
def test_probabilities_at_temperature_1_follow_from_the_given_probabilities(drawn, temperature):
    labels, logits = drawn(800, temperature)
    given = softmax(logits / temperature, axis=1).astype(np.float32)
    effect = temperature_effect(labels, given, temperature)
    plain = softmax(logits, axis=1)
    assert effect.before.ece.value == pytest.approx(calibration_error(labels, plain).value, abs=1e-6)
    assert effect.before.ece.low == pytest.approx(calibration_error(labels, plain).low, abs=1e-5)
    assert effect.before.loss.value == pytest.approx(log_losses(logits, labels).mean(), rel=1e-6)
    assert effect.before.histogram == confidence_counts(plain)
    assert effect.after.ece == calibration_error(labels, given)
    assert effect.after.bins == reliability_bins(labels, given)
    assert effect.after.loss.value == pytest.approx(-np.log(given[np.arange(800), labels].astype(float)).mean())


def test_a_probability_of_zero_leaves_every_figure_finite(drawn):
    labels, logits = drawn(200, 20.0)
    given = softmax(logits / 0.05, axis=1).astype(np.float32)
    assert (given[np.arange(200), labels] == 0).any()
    effect = temperature_effect(labels, given, 0.05)
    json.dumps(effect.to_dict(), allow_nan=False)
    assert effect.before.ece.value == pytest.approx(calibration_error(labels, softmax(logits, axis=1)).value, abs=0.05)


@pytest.mark.parametrize(
    ("made", "temperature", "change"),
    [(2.0, 2.0, "fell"), (0.4, 0.4, "fell"), (1.0, 3.0, "rose"), (1.0, 1.02, "unclear"), (2.0, 1.0, "none")],
)
def test_the_error_fell_or_rose_only_if_the_intervals_do_not_overlap(drawn, made, temperature, change):
    labels, logits = drawn(1500, made)
    effect = temperature_effect(labels, softmax(logits / temperature, axis=1), temperature)
    assert effect.change == change
    assert (effect.before == effect.after) == (change == "none")


def test_the_object_of_metrics_json_is_strict_and_names_its_origin(drawn):
    labels, logits = drawn(300, 3.0)
    fitted = calibrate(logits, labels)
    assert fitted is not None
    effect = temperature_effect(labels, softmax(logits / fitted.temperature, axis=1), fitted.temperature, fitted)
    document = json.loads(json.dumps(effect.to_dict(), allow_nan=False))
    assert document["fitted_on"]["n"] == 300
    assert document["ece_after"] == document["after"]["ece"]
    assert document["ece_before"]["value"] == pytest.approx(fitted.ece_before.value, abs=1e-9)
    assert sum(part["count"] for part in document["before"]["bins"]) == sum(document["before"]["histogram"]) == 300


def test_a_report_provides_the_figures_of_the_given_probabilities(drawn):
    labels, logits = drawn(300, 3.0)
    given = softmax(logits / 3, axis=1)
    report = classification_report(labels, given, list("abcde"), split="test")
    effect = temperature_effect(labels, given, 3.0, report=report)
    assert (effect.after.ece, effect.after.loss, effect.after.bins) == (report.ece, report.loss, report.reliability)
    plain = temperature_effect(labels, given, 3.0)
    assert effect.before == plain.before
    assert (effect.after.ece, effect.after.bins, effect.after.histogram) == (plain.after.ece, plain.after.bins, plain.after.histogram)


def test_a_single_image_has_an_effect_and_no_image_is_an_error():
    json.dumps(temperature_effect([0], [[0.7, 0.3]], 1.5).to_dict(), allow_nan=False)
    with pytest.raises(DataError, match="with at least 1 image"):
        temperature_effect([], np.empty((0, 2)), 1.5)
