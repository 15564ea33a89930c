from __future__ import annotations

import numpy as np
import pytest

from cnnkit.api.inference.drift import DriftWatch, take_fingerprint
from cnnkit.data.appearance import appearance
from cnnkit.exporters.opening import open_classifier
from cnnkit.metrics.drift import MIN_IMAGES
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.rules import Rules
from cnnkit.model.torch_classifier import TorchClassifier


def noise(number: int, high: int = 256, seed: int = 0) -> list[np.ndarray]:
    """Return `number` images of 16 px; the mean level of each is drawn below `high`."""
    random = np.random.default_rng(seed)
    levels = random.integers(0, high, number)
    return [np.clip(random.normal(level, 12, (16, 16, 3)), 0, 255).astype(np.uint8) for level in levels]


@pytest.fixture
def watched(brightness):
    """Return a classifier whose file has the fingerprint of 200 images of every brightness."""
    plain, images = brightness(), noise(200)
    looks = appearance(Preprocess(plain.preprocessing).canvases(images).numpy())
    known = take_fingerprint(looks, plain.probabilities(images), split="val")
    return brightness(rules=Rules(fingerprint=known))


@pytest.mark.parametrize(
    ("channels", "names"),
    [(1, ("brightness", "contrast", "sharpness")), (3, ("brightness", "contrast", "sharpness", "saturation", "warmth"))],
)
def test_a_fingerprint_holds_appearance_and_confidence(channels, names):
    random = np.random.default_rng(0)
    looks = appearance(random.integers(0, 256, (50, channels, 8, 8)).astype(np.uint8))
    probabilities = random.dirichlet((1, 1), 50).astype(np.float32)
    found = take_fingerprint(looks, probabilities, split="train")
    assert found.features == (*names, "confidence")
    assert (found.n, found.split, len(found.counts[0])) == (50, "train", 2)
    edges = np.quantile(probabilities.max(1), np.arange(1, 20) / 20)
    np.testing.assert_allclose(found.edges[-1], edges, rtol=1e-4)
    per_class = np.bincount(probabilities.argmax(1), minlength=2)
    assert np.array(found.counts).sum(axis=2).tolist() == [per_class.tolist()] * len(found.features)


def test_dark_images_alert_and_usual_images_do_not(watched):
    watch, other = DriftWatch(), DriftWatch()
    watch.probabilities(watched, noise(100, seed=1))
    other.probabilities(watched, noise(100, high=60, seed=1))
    usual, dark = watch.result(), other.result()
    assert usual is not None
    assert dark is not None
    assert (usual.has_alert, dark.has_alert) == (False, True)
    assert next(shift for shift in dark.shifts if shift.feature == "brightness").is_shifted
    assert (dark.n, dark.reference, dark.split) == (100, 200, "val")


def test_a_watch_returns_the_predictions_and_collects_all_batches(watched, brightness):
    images = noise(100, seed=2)
    watch, whole = DriftWatch(), DriftWatch()
    batches = [watch.probabilities(watched, images[:70]), watch.probabilities(watched, images[70:])]
    np.testing.assert_array_equal(np.concatenate(batches), brightness().probabilities(images))
    whole.probabilities(watched, images)
    assert watch.result() == whole.result()


def test_too_few_images_give_no_result(watched):
    watch = DriftWatch()
    watch.probabilities(watched, noise(MIN_IMAGES - 1, high=40))
    assert watch.result() is None
    watch.probabilities(watched, noise(1, high=40))
    assert watch.result() is not None


def test_a_single_image_outside_the_range_is_an_outlier_and_a_usual_one_is_not(watched):
    usual, dark, many = DriftWatch(), DriftWatch(), DriftWatch()
    usual.probabilities(watched, noise(1, seed=3))
    dark.probabilities(watched, [*noise(2, seed=3), np.zeros((16, 16, 3), np.uint8)])
    many.probabilities(watched, [np.zeros((16, 16, 3), np.uint8)] * MIN_IMAGES)
    assert usual.outliers() == []
    (found,) = dark.outliers()
    assert found.image == 2
    assert (found.feature, found.value) == ("sharpness", 0)
    assert found.low > 0.1 * (found.high - found.low)
    assert many.outliers() == []  # their distribution is compared instead
    assert DriftWatch().outliers() == []


@pytest.mark.parametrize("lacking", ["fingerprint", "preprocessing", "rules"])
def test_a_classifier_without_a_fingerprint_is_not_watched(watched, brightness, lacking):
    class Bare:
        classes = ("dark", "light")
        probabilities = brightness().probabilities

    files = {"fingerprint": brightness(), "preprocessing": brightness(rules=watched.rules, preprocessing=None), "rules": Bare()}
    watch, images = DriftWatch(), noise(MIN_IMAGES + 1)
    np.testing.assert_array_equal(watch.probabilities(files[lacking], images), brightness().probabilities(images))
    assert watch.result() is None


def test_a_model_file_is_watched_on_its_canvases(trained):
    classifier = open_classifier(trained.run / "best.safetensors")
    assert isinstance(classifier, TorchClassifier)
    images, watch = noise(MIN_IMAGES, high=30), DriftWatch()
    np.testing.assert_array_equal(watch.probabilities(classifier, images), classifier.probabilities(images))
    found = watch.result()
    assert found is not None
    assert (found.n, found.reference) == (MIN_IMAGES, 9)
    looks = appearance(classifier.canvases(images).numpy())
    medians = {shift.feature: shift.median for shift in found.shifts}
    assert medians["brightness"] == pytest.approx(np.median(looks[:, 0]))
