from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from cnnkit.metrics.colour import colour_histograms, colour_predictions, spread_sample


def painted(colours: list[tuple[int, int, int]], seed: int = 0) -> np.ndarray:
    """Return one noisy image (16, 16, 3) of each colour."""
    noise = np.random.default_rng(seed).normal(0, 20, (len(colours), 16, 16, 3))
    return (np.array(colours)[:, None, None] + noise).clip(0, 255).astype(np.uint8)


def test_histograms_count_each_pixel_once_at_any_position() -> None:
    images = painted([(30, 200, 120), (250, 0, 64)])
    found = colour_histograms(images)
    assert found.shape == (2, 64)
    np.testing.assert_allclose((found**2).sum(axis=1), 1)
    np.testing.assert_array_equal(colour_histograms(images[:, ::-1, ::-1]), found)
    pure = colour_histograms(np.full((1, 4, 4, 3), (255, 0, 64), np.uint8))
    assert pure[0].nonzero()[0].tolist() == [3 * 16 + 0 * 4 + 1]


def test_classes_of_different_colours_are_told_apart() -> None:
    red, green = (200, 40, 40), (40, 200, 40)
    labels = np.array([5, 2] * 20)
    predicted = colour_predictions(painted([red, green] * 20), labels, painted([green, red, red], seed=1))
    assert predicted.tolist() == [2, 5, 5]


@pytest.mark.parametrize("num_classes", [2, 7])
def test_predictions_equal_those_of_scikit_learn(num_classes: int) -> None:
    random = np.random.default_rng(0)
    colours, labels = random.integers(256, size=(num_classes, 3)), random.integers(num_classes, size=300)
    near = [tuple((colours[label] + random.integers(-60, 60, 3)).clip(0, 255)) for label in labels]
    images = painted(near)
    expected = RidgeClassifier(1.0).fit(colour_histograms(images[:200]), labels[:200]).predict(colour_histograms(images[200:]))
    found = colour_predictions(images[:200], labels[:200], images[200:])
    np.testing.assert_array_equal(found, expected)
    assert (found == labels[200:]).mean() > 0.5


def test_a_single_class_is_the_only_prediction() -> None:
    images = painted([(9, 9, 9)] * 3)
    assert colour_predictions(images, np.array([4, 4, 4]), images).tolist() == [4, 4, 4]


def test_the_sample_is_even_over_classes_and_over_each_class() -> None:
    labels = ["a"] * 5000 + ["b"] * 300 + ["c"] * 3
    chosen = spread_sample(labels)
    assert [sum(labels[index] == name for index in chosen) for name in "abc"] == [666, 300, 3]
    ends = [index for index in chosen if index < 5000]
    assert (ends[0], ends[-1] > 4980) == (0, True)
    assert len(spread_sample([str(i // 10) for i in range(10_000)])) == 5000, "five of each of a thousand classes"
