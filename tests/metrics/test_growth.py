from __future__ import annotations

import json
import math

import numpy as np
import pytest

from cnnkit.metrics.growth import Forecast, forecast, leaders

SHARES = np.array([1 / 8, 1 / 4, 1 / 2, 1])


def outlook(laws, *, images=400, support=1000, added=200) -> Forecast:
    """The forecast for classes of `laws` (floor, error now, exponent), measured without noise."""
    errors = np.array([[floor + (now - floor) * share**-exponent for floor, now, exponent in laws.values()] for share in SHARES])
    counts = np.full(len(laws), support)
    return forecast(np.outer(SHARES, np.full(len(laws), float(images))), (1 - errors) * counts, counts, list(laws), added)


STEEP, FLAT = (0.0, 0.3, 0.5), (0.02, 0.02, 0.5)


def test_the_class_that_gains_most_is_named_with_its_band():
    found = outlook({"bees": STEEP, "ants": FLAT, "wasps": FLAT})
    assert found.verdict.startswith("bees would gain most from 200 more images: +5.")
    assert [row.name for row in leaders(found.per_class)] == ["bees"]
    bees, ants, _ = found.per_class
    assert (bees.says, ants.says) == ("gains", "little")
    assert bees.gain.low < 0.3 - 0.3 * 1.5**-0.5 < bees.gain.high
    assert (bees.images, bees.added, bees.now.value) == (400, 200, pytest.approx(0.7))


def test_of_two_that_gain_alike_none_is_said_to_be_first():
    found = outlook({"bees": STEEP, "ants": FLAT, "wasps": (0.0, 0.3, 0.5)})
    assert "bees or wasps would gain most from 200 more images; which of them cannot be told" in found.verdict


def test_of_many_that_gain_alike_the_first_is_a_guess():
    found = outlook(dict.fromkeys("abcde", STEEP))
    assert "cannot tell whether it gains most, 4 other classes may gain as much" in found.verdict


def test_few_validation_images_cannot_tell():
    found = outlook({"bees": (0.1, 0.2, 0.4), "ants": FLAT}, support=10)
    assert found.verdict.startswith("cannot tell: no class is sure to gain from 200 more images")
    assert leaders(found.per_class) == []


def test_a_model_that_learned_nothing_cannot_tell():
    found = outlook({"bees": (0.0, 0.02, 0.3), "ants": (0.9, 0.97, 0.1)})
    assert found.verdict.startswith("cannot tell: trained on all images the model is not shown to be better than always answering bees;")


def test_a_recall_that_may_fall_much_is_not_little():
    def word(support):
        right = np.array([[0.99, 0.95, 0.9, 0.84], [0.9, 0.95, 0.97, 0.98]]).T * support
        images = np.outer(SHARES, [400.0, 400.0])
        return forecast(images, right, np.array([support, support]), ["bees", "ants"], 200).per_class[0]

    falling = word(100)
    assert falling.gain.high < 0.01
    assert falling.gain.low < -0.02
    assert falling.says == "cannot tell"


def test_nothing_left_to_gain_is_said_so():
    assert outlook({"bees": FLAT, "ants": FLAT}).verdict == "200 more images would bring less than 1 point of recall in every class"


def test_more_than_four_times_the_images_is_too_far_to_tell():
    near, far = (outlook({"bees": STEEP, "ants": FLAT}, images=60, added=added).per_class[0] for added in (180, 181))
    assert (near.says, far.says) == ("gains", "cannot tell")


def test_all_images_are_those_of_every_class():
    found = outlook({"bees": STEEP, "ants": FLAT})
    assert (found.overall.images, found.overall.added, found.overall.sizes.support) == (800, 400, 2000)
    assert found.overall.now.value == pytest.approx(1 - 0.16)


def test_a_class_that_nothing_was_measured_on_has_no_numbers_and_stops_nothing():
    images = np.outer(SHARES, [400.0, 400.0])
    found = forecast(images, np.outer(800 - 300 * SHARES**-0.3, [1, 0]), np.array([1000, 0]), ["bees", "ants"], 200)
    ants = found.per_class[1]
    assert ants.says == "cannot tell"
    assert math.isnan(ants.gain.value)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["per_class"][1]["later"] == {"value": None, "low": None, "high": None}
    assert document["per_class"][0]["gain"]["value"] > 0
    assert document["overall"]["class"] is None
