from __future__ import annotations

import numpy as np

from cnnkit.data.image import decode_image
from cnnkit.exporters.golden import golden_files, golden_photos
from cnnkit.model.torch_classifier import TorchClassifier


def test_the_photos_are_real_and_the_same_at_each_export():
    photos = golden_photos()
    assert list(photos) == ["photo.jpg", "photo.png", "small.png"]
    assert photos == golden_photos()
    decoded = [decode_image(content) for content in photos.values()]
    assert decoded[2].shape == (37, 53, 3)
    assert all(image.std() > 5 for image in decoded)


def test_a_model_of_drafts_gets_its_photos_at_a_fraction_of_their_size(model):
    spec = model.header.preprocessing.model_copy(update={"draft_side": 24})
    _, (jpeg, *others) = golden_files(TorchClassifier(model), decode_image, spec, "images")
    expected = [decode_image(content, 24).shape[:2] for content in golden_photos().values()]
    assert [(entry["height"], entry["width"]) for entry in (jpeg, *others)] == expected
    assert jpeg["height"] < others[0]["height"]


def test_the_entries_hold_the_predictions_of_the_file(model):
    files, entries = golden_files(TorchClassifier(model), decode_image, model.header.preprocessing, "images")
    assert [file.name for file in files] == [name for photo in golden_photos() for name in (photo, f"{photo}.rgb")]
    expected = TorchClassifier(model).probabilities([decode_image(content) for content in golden_photos().values()])
    np.testing.assert_allclose([entry["probabilities"] for entry in entries], expected, rtol=0, atol=1e-6)
    assert [entry["label"] for entry in entries] == [model.header.classes[row.argmax()] for row in expected]
