from __future__ import annotations

import json
import math

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax

from cnnkit.metrics.calibration import MIN_TEMPERATURE, expected_calibration_error, fit_temperature
from cnnkit.metrics.temperature import MIN_IMAGES, Calibration, calibrate, log_losses, softmax


def calibrated(logits, labels) -> Calibration:
    found = calibrate(logits, labels)
    assert found is not None
    return found


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_model_too_sure_or_too_modest_gets_the_right_temperature(drawn, temperature):
    labels, logits = drawn(2000, temperature)
    found = calibrated(logits.astype(np.float32), labels)
    assert found.temperature == pytest.approx(temperature, rel=0.1)
    assert found.temperature == fit_temperature(logits.astype(np.float32), labels)
    assert (found.split, found.n, found.reason) == ("val", 2000, "")
    assert found.ece_after.high < found.ece_before.low
    assert found.ece_before.value == expected_calibration_error(labels, scipy_softmax(logits.astype(np.float32).astype(float), axis=1))
    assert found.loss_after < found.loss_before


def test_a_calibrated_model_keeps_its_probabilities(drawn):
    labels, logits = drawn(500)
    found = calibrated(logits, labels)
    assert fit_temperature(logits, labels) != 1
    assert found.temperature == 1
    assert found.reason.endswith("does not clearly lower the loss on the 500 images of val")
    assert (found.ece_after, found.loss_after) == (found.ece_before, found.loss_before)


@pytest.mark.parametrize(("n", "number"), [(1, "1 image,"), (3, "3 images,"), (MIN_IMAGES - 1, "99 images,")])
def test_few_images_keep_the_temperature_at_1(drawn, n, number):
    labels, logits = drawn(n, 5.0)
    found = calibrated(logits, labels)
    assert found.temperature == 1
    assert found.reason == f"val has {number} and a temperature needs at least 100"
    assert found.n == n


def test_a_model_without_mistakes_keeps_the_temperature_at_1():
    labels = np.arange(200) % 4
    logits = np.eye(4)[labels]
    assert fit_temperature(logits, labels) == MIN_TEMPERATURE
    found = calibrated(logits, labels)
    assert (found.temperature, found.reason) == (1, "the model is right on all 200 images of val, and a temperature needs mistakes")


def test_one_class_is_certain_at_any_temperature():
    found = calibrated(np.full((200, 1), 3.0), np.zeros(200, int))
    assert (found.temperature, found.ece_before.value, found.loss_before) == (1, 0, 0)


def test_logits_that_are_not_finite_are_left_out(drawn):
    labels, logits = drawn(300, 3.0)
    odd = np.vstack([logits, np.full((5, 5), math.nan), np.full((2, 5), -math.inf)])
    assert calibrate(odd, np.append(labels, np.zeros(7, int))) == calibrate(logits, labels)
    assert calibrate(np.full((200, 3), math.nan), np.zeros(200, int)) is None
    assert calibrate(np.empty((0, 3)), np.empty(0, int)) is None


def test_a_calibration_survives_json(drawn):
    labels, logits = drawn(150, 3.0)
    found = calibrated(logits, labels)
    assert (
        TypeAdapter(Calibration).validate_python(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found
    )  # as a header is read


@pytest.mark.parametrize("temperature", [0.05, 1.0, 7.0])
def test_probabilities_and_losses_are_scipys(drawn, temperature):
    labels, logits = drawn(50, 300.0)
    np.testing.assert_allclose(softmax(logits, temperature), scipy_softmax(logits / temperature, axis=1), rtol=1e-10, atol=1e-300)
    expected = -log_softmax(logits / temperature, axis=1)[np.arange(50), labels]
    np.testing.assert_allclose(log_losses(logits, labels, temperature), expected, rtol=1e-12)
