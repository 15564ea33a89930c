from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnkit.api.training import data_dependent_init
from cnnkit.api.training.data_dependent_init import StartsFromImages, start_from_images
from cnnkit.data.batches import Batches
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.weights import WeightsReport

SPEC = Preprocessing(image_size=2, channels=1, mean=(0.0,), std=(1.0,))


class ImageRecorder(nn.Module):
    """A network that initialises from images and keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def start_from(self, images: Tensor) -> None:
        self.shown.append(images)


class PixelClassifier(nn.Module):
    """A last layer on the four pixels of an image; `counts` are the sizes of its batches."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(4, classes)
        self.counts: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.counts.append(len(images))
        return self.head(images.flatten(1))


@pytest.fixture
def images() -> Batches:
    """Return ten images, numbered by their gray level; rows 1 to 9 are train, in batches of four."""
    canvases = np.arange(10, dtype=np.uint8).repeat(4).reshape(10, 1, 2, 2)
    rows = np.arange(1, 10)
    return Batches(canvases, rows, rows % 3, 4, Preprocess(SPEC), torch.device("cpu"))


def test_a_network_initialises_from_normalised_images_spread_over_train(images, monkeypatch):
    network = ImageRecorder()
    assert isinstance(network, StartsFromImages)
    assert start_from_images(network, None, images, 3) is None
    (shown,) = network.shown
    assert (255 * shown[:, 0, 0, 0]).round().tolist() == list(range(1, 10))
    monkeypatch.setattr(data_dependent_init, "MAX_INIT_IMAGES", 3)
    start_from_images(network, None, images, 3)
    assert (255 * network.shown[1][:, 0, 0, 0]).round().tolist() == [1, 5, 9]


def test_a_network_with_weights_is_not_initialised_from_images(images):
    network = ImageRecorder()
    report = WeightsReport(loaded=1, skipped=(), missing=(), unexpected=())
    assert start_from_images(network, report, images, 3) is None
    assert network.shown == []


def test_a_random_network_without_start_from_is_left_alone(images):
    network = PixelClassifier(3)
    before = network.head.weight.clone()
    assert start_from_images(network, None, images, 3) is None
    assert torch.equal(network.head.weight, before)
    assert network.counts == []


def test_a_new_last_layer_is_mixed_from_images_of_every_class(images, monkeypatch):
    monkeypatch.setattr(data_dependent_init, "IMAGES_PER_CLASS", 2)
    network = PixelClassifier(3)
    old = {"head.weight": torch.ones(5, 4), "head.bias": torch.zeros(5)}
    report = WeightsReport(loaded=0, skipped=("head.weight", "head.bias"), missing=(), unexpected=(), spare=old)
    note = start_from_images(network, report, images, 3)
    assert note == "the new last layer starts as a mixture of the old classes, by their probabilities on training images"
    torch.testing.assert_close(network.head.weight.detach(), torch.ones(3, 4))
    assert sum(network.counts) == 6
    assert network.training
