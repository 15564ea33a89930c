from __future__ import annotations

import json
import math

import numpy as np
import pytest

from cnnkit.metrics.growth import Forecast, forecast, leaders

SHARES = np.array([1 / 8, 1 / 4, 1 / 2, 1])


def outlook(laws, *, images=400, support=1000, added=200) -> Forecast:
    """Return the forecast for classes of `laws` (floor, error now, exponent), measured without noise."""
    errors = np.array([[floor + (now - floor) * share**-exponent for floor, now, exponent in laws.values()] for share in SHARES])
    counts = np.full(len(laws), support)
    return forecast(np.outer(SHARES, np.full(len(laws), float(images))), (1 - errors) * counts, counts, list(laws), added)


STEEP, FLAT = (0.0, 0.3, 0.5), (0.02, 0.02, 0.5)


def test_the_verdict_names_the_class_of_largest_gain_and_its_band():
    found = outlook({"bees": STEEP, "ants": FLAT, "wasps": FLAT})
    assert found.verdict.startswith("bees would gain most from 200 more images: +5.")
    assert [row.name for row in leaders(found.per_class)] == ["bees"]
    bees, ants, _ = found.per_class
    assert (bees.conclusion, ants.conclusion) == ("gains", "little")
    assert bees.gain.low < 0.3 - 0.3 * 1.5**-0.5 < bees.gain.high
    assert (bees.images, bees.added, bees.now.value) == (400, 200, pytest.approx(0.7))


def test_the_verdict_names_two_classes_of_equal_gain():
    found = outlook({"bees": STEEP, "ants": FLAT, "wasps": (0.0, 0.3, 0.5)})
    assert "bees or wasps would gain most from 200 more images; it is unclear which. bees: +" in found.verdict


def test_the_verdict_counts_many_classes_of_equal_gain():
    found = outlook(dict.fromkeys("abcde", STEEP))
    assert "it is unclear whether it gains most, because 4 other classes may gain as much" in found.verdict


def test_few_validation_images_cannot_tell():
    found = outlook({"bees": (0.1, 0.2, 0.4), "ants": FLAT}, support=10)
    assert found.verdict.startswith("cannot tell: no class clearly gains from 200 more images")
    assert leaders(found.per_class) == []


def test_a_model_no_better_than_a_constant_prediction_cannot_tell():
    found = outlook({"bees": (0.0, 0.02, 0.3), "ants": (0.9, 0.97, 0.1)})
    assert found.verdict.startswith("cannot tell: the model trained on all images is not clearly better than always predicting bees;")


def test_a_recall_that_may_fall_much_is_not_little():
    def growth(support):
        right = np.array([[0.99, 0.95, 0.9, 0.84], [0.9, 0.95, 0.97, 0.98]]).T * support
        images = np.outer(SHARES, [400.0, 400.0])
        return forecast(images, right, np.array([support, support]), ["bees", "ants"], 200).per_class[0]

    falling = growth(100)
    assert falling.gain.high < 0.01
    assert falling.gain.low < -0.02
    assert falling.conclusion == "cannot tell"


def test_the_verdict_of_flat_curves_is_a_little_gain():
    assert outlook({"bees": FLAT, "ants": FLAT}).verdict == "200 more images would add less than 1 point of recall in every class"


def test_more_than_four_times_the_images_is_too_far_to_tell():
    near, far = (outlook({"bees": STEEP, "ants": FLAT}, images=60, added=added).per_class[0] for added in (180, 181))
    assert (near.conclusion, far.conclusion) == ("gains", "cannot tell")


def test_the_overall_forecast_adds_images_to_every_class():
    found = outlook({"bees": STEEP, "ants": FLAT})
    assert (found.overall.images, found.overall.added, found.overall.points.support) == (800, 400, 2000)
    assert found.overall.now.value == pytest.approx(1 - 0.16)


def test_a_class_without_validation_images_has_nan_and_spares_the_others():
    images = np.outer(SHARES, [400.0, 400.0])
    found = forecast(images, np.outer(800 - 300 * SHARES**-0.3, [1, 0]), np.array([1000, 0]), ["bees", "ants"], 200)
    ants = found.per_class[1]
    assert ants.conclusion == "cannot tell"
    assert math.isnan(ants.gain.value)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["per_class"][1]["later"] == {"value": None, "low": None, "high": None}
    assert document["per_class"][0]["gain"]["value"] > 0
    assert document["overall"]["class"] is None
