from __future__ import annotations

import numpy as np
import pytest

from cnnkit.errors import ConfigError
from cnnkit.metrics.learning_curve import CurvePoints, LearningCurve, dispersion

SHARES = np.array([1 / 8, 1 / 4, 1 / 2, 1])
IMAGES = 400 * SHARES


def error(images, floor, now, exponent):
    """Return the error of a power law that is `now` at 400 images."""
    return floor + (now - floor) * (np.asarray(images, float) / 400) ** -exponent


def measured(random, support, *law, more=1.0):
    """Return random counts of one class from `law`, with `more` times the binomial variance."""
    expected = error(IMAGES, *law)
    if more > 1:
        likeness = (more - 1) / (support - 1)
        expected = random.beta(expected * (1 / likeness - 1), (1 - expected) * (1 / likeness - 1))
    return CurvePoints(IMAGES, support - random.binomial(support, expected).astype(float), support)


@pytest.mark.parametrize("law", [(0.0, 0.2, 0.5), (0.05, 0.3, 0.3), (0.1, 0.12, 1.0), (0.2, 0.2, 0.5)])
def test_the_fit_recovers_a_power_law_without_noise(law):
    curve = LearningCurve(CurvePoints(IMAGES, 1e6 * (1 - error(IMAGES, *law)), 1_000_000))
    for images in (50, 400, 800):
        assert curve.at(images).value == pytest.approx(1 - error(images, *law), abs=2e-3)
    assert curve.gain(400).value == pytest.approx(error(400, *law) - error(800, *law), abs=2e-3)


LAWS = [(0.0, 0.1, 0.3), (0.08, 0.1, 0.5), (0.0, 0.3, 0.2), (0.25, 0.3, 0.9), (0.3, 0.3, 0.5)]


@pytest.mark.parametrize(("support", "more"), [(20, 1.0), (100, 1.0), (1000, 1.0), (100, 3.0)])
def test_the_band_holds_the_truth_in_95_of_100_cases(support, more):
    """The experiments have ten classes of each law; docs/more-data.md has the figures."""
    random = np.random.default_rng(0)
    later, gain, trials = 0, 0, 0
    for law in LAWS:
        for _ in range(6):
            classes = [measured(random, support, *law, more=more) for _ in range(10)]
            spread = dispersion([LearningCurve(each, draws=1) for each in classes])
            for seed, each in enumerate(classes):
                curve = LearningCurve(each, dispersion=spread, draws=300, seed=seed)
                expected, better = curve.at(600), curve.gain(200)
                later += expected.low <= 1 - error(600, *law) <= expected.high
                gain += better.low <= error(400, *law) - error(600, *law) <= better.high
                trials += 1
    assert 0.91 <= later / trials <= 0.99
    assert 0.87 <= gain / trials <= 0.99


def test_many_classes_show_the_noise_between_trainings():
    random = np.random.default_rng(1)
    for more, low, high in ((1.0, 1.0, 1.25), (3.0, 2.0, 3.8)):
        curves = [LearningCurve(measured(random, 200, 0.05, 0.2, 0.4, more=more), draws=1) for _ in range(200)]
        assert low <= dispersion(curves) <= high


def test_more_noise_and_fewer_images_widen_the_band():
    def width(support, spread=1.0):
        curve = LearningCurve(CurvePoints(IMAGES, support * (1 - error(IMAGES, 0.05, 0.2, 0.4)), support), dispersion=spread)
        return curve.at(800).high - curve.at(800).low

    assert width(1000) < width(100) < width(20)
    assert 1.5 < width(1000, 4.0) / width(1000) < 2.5  # twice the noise


def test_the_band_widens_with_distance_and_stays_in_0_to_1():
    curve = LearningCurve(CurvePoints(IMAGES, 30 * (1 - error(IMAGES, 0.0, 0.1, 0.5)), 30))
    near, far = curve.gain(100), curve.gain(1200)
    assert far.high - far.low > near.high - near.low
    assert 0 <= curve.at(100_000).low <= curve.at(100_000).value <= curve.at(100_000).high <= 1


def test_a_class_without_mistakes_has_a_band():
    curve = LearningCurve(CurvePoints(IMAGES, np.full(4, 20.0), 20))
    assert curve.at(600).value == 1.0
    assert curve.at(600).low < 0.95


def test_a_random_fall_is_no_gain():
    curve = LearningCurve(CurvePoints(IMAGES, np.array([45.0, 44, 43, 42]), 50))
    assert curve.gain(200).value < 0 < curve.gain(200).high


def test_equal_numbers_of_images_give_a_flat_curve():
    curve = LearningCurve(CurvePoints(np.array([1.0, 1, 1]), np.array([3.0, 5, 4]), 10))
    assert curve.at(10).value == pytest.approx(curve.at(1).value)
    assert curve.at(1).value == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize(("images", "support"), [((50, 100), 10), ((50, 100, 200), 0)])
def test_too_few_sizes_or_images_are_an_error(images, support):
    with pytest.raises(ConfigError, match="a learning curve needs at least 3 sizes and 1 validation image, got"):
        LearningCurve(CurvePoints(np.array(images, float), np.zeros(len(images)), support))
