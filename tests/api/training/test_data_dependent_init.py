from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnkit.api.training import data_dependent_init
from cnnkit.api.training.batches import TrainingBatches
from cnnkit.api.training.data_dependent_init import HeadFit, Start, StartsFromImages, start_from_images
from cnnkit.data.augment.augment import PRESETS
from cnnkit.data.batches import Batches
from cnnkit.engine.runtime import Runtime
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.weights import WeightsReport

SPEC = Preprocessing(image_size=2, channels=1, mean=(0.0,), std=(1.0,))
CPU = torch.device("cpu")
FIT = HeadFit(0.0, Runtime(CPU))
NEW_HEAD = WeightsReport(loaded=0, skipped=("head.weight", "head.bias"), missing=(), unexpected=())


class ImageRecorder(nn.Module):
    """A network that initialises from images and keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def start_from(self, images: Tensor) -> None:
        self.shown.append(images)


class PixelClassifier(nn.Module):
    """A last layer on the four pixels of an image, divided by `divisor`; `counts` are the sizes of its batches."""

    def __init__(self, classes: int, divisor: float = 1.0) -> None:
        super().__init__()
        self.head = nn.Linear(4, classes)
        self.divisor = divisor
        self.counts: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.counts.append(len(images))
        return self.head(images.flatten(1)) / self.divisor


@pytest.fixture
def images() -> TrainingBatches:
    """Return 27 images of three classes in batches of four: 18 of train, 9 of val; class k has a lit pixel k and noise."""
    canvases = np.random.default_rng(0).integers(0, 60, (27, 1, 2, 2)).astype(np.uint8)
    labels = np.arange(27) % 3
    canvases.reshape(27, 4)[np.arange(27), labels] += 150
    rows = np.arange(27)
    val = Batches(canvases, rows[18:], labels[18:], 4, Preprocess(SPEC), CPU)
    plain = replace(val, rows=rows[:18], labels=labels[:18])
    return TrainingBatches(replace(plain, augmentation=PRESETS["none"]), val, plain, None)


def test_a_network_initialises_from_normalised_images_spread_over_train(images, monkeypatch):
    network = ImageRecorder()
    assert isinstance(network, StartsFromImages)
    assert start_from_images(network, None, images, 3, FIT) == Start()
    (shown,) = network.shown
    assert torch.equal(shown, torch.cat([batch for batch, _ in images.plain.epoch(0)]))
    monkeypatch.setattr(data_dependent_init, "MAX_INIT_IMAGES", 3)
    start_from_images(network, None, images, 3, FIT)
    assert torch.equal(network.shown[1], shown[[0, 8, 17]])


def test_a_network_with_weights_is_not_initialised_from_images(images):
    network = ImageRecorder()
    report = WeightsReport(loaded=1, skipped=(), missing=(), unexpected=())
    assert start_from_images(network, report, images, 3, FIT) == Start()
    assert network.shown == []


def test_a_random_network_and_a_loaded_last_layer_are_left_alone(images):
    network = PixelClassifier(3)
    before = network.head.weight.clone()
    assert start_from_images(network, None, images, 3, FIT) == Start()
    assert start_from_images(network, replace(NEW_HEAD, skipped=()), images, 3, FIT) == Start()
    assert torch.equal(network.head.weight, before)
    assert network.counts == []


def test_a_new_last_layer_is_a_logistic_regression_that_separates_the_classes(images):
    network = PixelClassifier(3)
    note, figures = start_from_images(network, NEW_HEAD, images, 3, FIT)
    assert note == "the new last layer starts as a logistic regression: val accuracy 100.0 % (zero 33.3 %)"
    assert figures is not None
    assert (figures.accuracy, figures.images) == (1.0, 18)
    assert 0 < figures.loss < 0.1
    assert sum(network.counts) == 27
    assert network.training
    for batch, labels in images.val.epoch(0):
        assert network(batch).argmax(1).tolist() == labels.tolist()


def test_the_features_of_an_augmented_view_join_the_fit(images):
    network = PixelClassifier(3)
    varied = replace(images.train, augmentation=replace(PRESETS["light"], mixup=0.5), classes=3)
    _, figures = start_from_images(network, NEW_HEAD, replace(images, train=varied), 3, FIT)
    assert figures is not None
    assert figures.images == 36
    assert sum(network.counts) == 45


def test_the_best_start_on_val_is_taken_and_the_others_are_named(images):
    network = PixelClassifier(3)
    lit = 100 * torch.eye(4)[[3, 0, 1, 2]]  # old class k + 1 is the lit pixel k
    report = replace(NEW_HEAD, spare={"head.weight": lit, "head.bias": torch.zeros(4)})
    note, _ = start_from_images(network, report, images, 3, FIT)
    assert note == (
        "the new last layer starts as a mixture of the old classes: val accuracy 100.0 % (a logistic regression 100.0 %, zero 33.3 %)"
    )
    torch.testing.assert_close(network.head.weight.detach(), lit[1:], atol=0.5, rtol=0)


def test_a_network_whose_logits_are_not_its_last_layer_starts_at_zero(images):
    network = PixelClassifier(3, divisor=9.0)
    assert start_from_images(network, NEW_HEAD, images, 3, FIT) == Start("the new last layer starts at zero")
    assert not network.head.weight.any()
    assert not network.head.bias.any()
    assert network.training


def test_without_a_fit_the_new_last_layer_is_zero(images):
    network = PixelClassifier(3)
    assert start_from_images(network, NEW_HEAD, images, 3, None) == Start("the new last layer is fitted before the first epoch")
    assert not network.head.weight.any()
    assert network.counts == []


def test_many_images_are_sampled(images, monkeypatch):
    monkeypatch.setattr(data_dependent_init, "MAX_FIT_IMAGES", 10)
    monkeypatch.setattr(data_dependent_init, "MAX_CHOICE_IMAGES", 5)
    network = PixelClassifier(3)
    done: list[tuple[int, int]] = []
    _, figures = start_from_images(network, NEW_HEAD, images, 3, replace(FIT, progress=lambda *counts: done.append(counts)))
    assert figures is not None
    assert figures.images == 10
    assert (sum(network.counts), done[-1]) == (15, (15, 15))


def seconds() -> Iterator[float]:
    """Yield 0, 1, 2 …: a clock by which every batch takes a second."""
    now = -1.0
    while True:
        now += 1
        yield now


@pytest.mark.parametrize(("budget", "in_fit"), [(1000.0, 36), (9.0, 18), (4.0, 8)])
def test_a_short_budget_goes_to_the_plain_images_first(images, budget, in_fit):
    ticks = seconds()
    network = PixelClassifier(3)
    varied = replace(images.train, augmentation=PRESETS["light"])
    fit = replace(FIT, budget=budget, clock=lambda: next(ticks))
    note, figures = start_from_images(network, NEW_HEAD, replace(images, train=varied), 3, fit)
    assert figures is not None
    assert note is not None
    assert (figures.images, f"on {in_fit} of 18 images, as the budget is short" in note) == (in_fit, in_fit < 18)
