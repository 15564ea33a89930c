from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cnnkit.api.inference import prepared
from cnnkit.api.inference.predict import predict, predictions
from cnnkit.api.inference.samples import Samples, other_samples, run_samples
from cnnkit.api.inference.split_predictions import predict_split
from cnnkit.data.store.cache import stores
from cnnkit.exporters.opening import open_classifier
from cnnkit.run_dir import RunDir


@pytest.fixture
def samples(gray_images, tmp_path) -> Samples:
    """Return five images of two classes; one image is unreadable."""
    gray_images(0, 51, 102, folder="images/dark")
    gray_images(204, 255, folder="images/light")
    (tmp_path / "images/light/1-255.png").write_bytes(b"no image")
    return other_samples(str(tmp_path / "images"), None, ("dark", "light"))


def test_any_classifier_predicts_every_readable_image_in_batches(brightness, samples, monkeypatch):
    monkeypatch.setattr(prepared, "MAX_BATCH_IMAGES", 2)
    seen: list[tuple[int, int]] = []
    classifier = brightness()
    found = predict_split(classifier, samples, lambda done, total: seen.append((done, total)))
    assert [record.path for record in found.records] == ["dark/0-0.png", "dark/1-51.png", "dark/2-102.png", "light/0-204.png"]
    assert found.probabilities[:, 1].tolist() == pytest.approx([0, 0.2, 0.4, 0.8])
    assert [path for path, _ in found.bad] == ["light/1-255.png"]
    assert found.bad[0][1].startswith("not an image in a supported format")
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert classifier.batches == [2, 2]
    assert (found.seen, found.notes) == (None, [])


def test_images_that_changed_since_the_training_are_noted(brightness, samples):
    hashes = {record.path: "of another image" for record in samples.records[:2]}
    found = predict_split(brightness(), replace(samples, hashes=hashes))
    assert found.notes == ["2 images have changed since the training, such as dark/0-0.png"]


def test_only_unreadable_images_give_no_predictions(brightness, samples):
    found = predict_split(brightness(), replace(samples, records=samples.records[-1:]))
    assert (len(found.records), found.probabilities.shape, len(found.bad)) == (0, (0, 2), 1)


def test_a_model_file_predicts_the_same_from_the_store_as_from_the_files(trained):
    samples = run_samples(RunDir(trained.run), None)
    before = stores()
    found = predict_split(open_classifier(trained.run / "best.safetensors"), samples)
    assert found.seen is not None
    assert (found.seen.reused, found.bad, found.notes, len(found.scope)) == (True, (), [], 61)
    assert [store.images for store in stores()] == [store.images for store in before]
    predictions = list(predict([trained.data / record.path for record in found.records], trained.run))
    expected = [each.probabilities for each in predictions if each.probabilities is not None]
    np.testing.assert_allclose(found.probabilities, expected, rtol=0, atol=1e-6)


def test_without_a_store_only_the_images_of_the_split_are_decoded(trained, tmp_path, monkeypatch):
    samples = run_samples(RunDir(trained.run), None)
    warm = predict_split(open_classifier(trained.run / "best.safetensors"), samples)
    monkeypatch.setenv("CNNKIT_CACHE", str(tmp_path / "empty"))
    steps: list[tuple[int, int]] = []
    cold = predict_split(open_classifier(trained.run / "best.safetensors"), samples, lambda done, total: steps.append((done, total)))
    assert [store.images for store in stores()] == [9]
    assert (steps[-1], cold.scope) == ((9, 9), samples.records)
    np.testing.assert_array_equal(cold.probabilities, warm.probabilities)


def test_unreadable_and_changed_images_are_named(trained):
    whole = other_samples(str(trained.data), None, ("ants", "bees", "wasps"))
    found = predict_split(open_classifier(trained.run / "best.safetensors"), replace(whole, hashes={"ants/ants-000.jpg": "of another"}))
    assert [path for path, _ in found.bad] == ["bees/broken.jpg"]
    assert len(found.records) == len(found.probabilities) == 60
    assert found.changed == ["ants/ants-000.jpg"]


def test_a_model_file_of_drafts_is_evaluated_on_drafts(trained, draft_model, draft_probabilities):
    samples = other_samples(str(trained.data), None, ("ants", "bees", "wasps"))
    found = predict_split(open_classifier(draft_model), samples)
    expected = draft_probabilities([trained.data / record.path for record in found.records])
    np.testing.assert_allclose(found.probabilities, expected, rtol=0, atol=1e-6)


def test_any_classifier_predicts_the_drafts_that_its_preprocessing_names(brightness, tmp_path):
    for name in ("dark", "light"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (64, 48)).save(tmp_path / "photos" / name / "photo.jpg")
    shapes: list[tuple[int, ...]] = []
    classifier = brightness(preprocessing=brightness().preprocessing.model_copy(update={"draft_side": 12}))
    of_images = classifier.probabilities
    classifier.probabilities = lambda images: shapes.extend(image.shape for image in images) or of_images(images)
    predict_split(classifier, other_samples(str(tmp_path / "photos"), None, ("dark", "light")))
    list(predictions(classifier, sorted((tmp_path / "photos").rglob("*.jpg"))))
    assert shapes == [(12, 16, 3)] * 4
