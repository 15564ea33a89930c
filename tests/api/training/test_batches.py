from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cnnkit.api.training import batches as module
from cnnkit.api.training.batches import TrainingBatches, make_batches
from cnnkit.api.training.images import TrainingImages, load_images, open_training_source
from cnnkit.api.training.network import draw_up

CPU = torch.device("cpu")


@pytest.fixture
def loaded(small_config) -> Callable[..., TrainingImages]:
    """Return a function that loads the training images of a folder."""

    def load(data: Path, **flags: object) -> TrainingImages:
        config = small_config(data, **flags)
        return load_images(config, draw_up(config.model), source=open_training_source(config.data))

    return load


def batches(images: TrainingImages, **changed: Any) -> TrainingBatches:
    given: dict[str, Any] = {"batch_size": 16, "balance": "none", "seed": 3, **changed}
    return make_batches(images, CPU, **given)


def test_train_is_shuffled_and_augmented_but_val_and_plain_are_neither(image_folder, loaded):
    images = loaded(image_folder(images=12))
    made = batches(images)
    assert (made.train.steps, made.train.batch_size, made.train.seed, made.train.classes) == (2, 16, 3, 3)
    assert (made.train.augmentation, made.val.augmentation, made.plain.augmentation) == (images.augmentation, None, None)
    for one, split in ((made.train, "train"), (made.plain, "train"), (made.val, "val")):
        rows, labels = images.dataset.arrays(split)
        np.testing.assert_array_equal(one.rows, rows)
        np.testing.assert_array_equal(one.labels, labels)
    in_order = torch.cat([labels for _, labels in made.plain.epoch(0)])
    assert in_order.tolist() == made.plain.labels.tolist()
    shuffled = torch.cat([labels for _, labels in made.train.epoch(1)])
    assert shuffled.tolist() != in_order.tolist()
    assert sorted(shuffled.tolist()) == sorted(in_order.tolist())
    assert made.class_weights is None


def test_plain_batches_are_normalised_canvases(image_folder, loaded):
    images = loaded(image_folder(images=6))
    made = batches(images)
    (pictures, _), *_ = made.plain.epoch(0)
    canvases = torch.from_numpy(np.array(images.canvases[made.plain.rows])).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (images.preprocessing.mean, images.preprocessing.std))
    torch.testing.assert_close(pictures, (canvases - mean) / std)


def test_evaluation_batches_are_smaller_for_larger_images(image_folder, loaded):
    made = batches(loaded(image_folder(images=6), image_size=512))
    assert (made.val.batch_size, made.plain.batch_size) == (4, 4)  # 2**20 pixels of a CPU
    assert batches(loaded(image_folder(images=6), image_size=16)).val.batch_size == 256


def test_the_sampler_and_the_weights_balance_the_classes(image_folder, dry_job):
    data = image_folder(classes={"ants": 24, "bees": 8})
    equal = dry_job(data, balance="sampler").batches
    labels = torch.cat([labels for _, labels in equal.epoch(1)])
    assert torch.bincount(labels).tolist() == [16, 16]
    weights = dry_job(data, balance="weights").weights
    assert weights is not None
    assert weights[1] > weights[0]


def test_class_weights_are_inverse_shares_of_the_training_images(image_folder, loaded):
    images = loaded(image_folder(classes={"ants": 24, "bees": 8}))
    counts = np.bincount(images.dataset.arrays("train")[1])
    weights = batches(images, balance="weights").class_weights
    assert weights is not None
    assert weights.tolist() == pytest.approx(counts.sum() / (2 * counts))
    assert not batches(images, balance="weights").train.balanced
    assert batches(images, balance="sampler").class_weights is None


@pytest.mark.parametrize("keep", [True, False])
def test_a_gpu_gets_the_canvases_of_train_and_val_if_they_fit_and_else_batches_made_ahead(image_folder, loaded, monkeypatch, keep):
    images, asked = loaded(image_folder(images=12)), []

    def refuse(canvases: object, rows: np.ndarray, device: torch.device, free: int) -> None:
        asked.append((canvases is images.canvases, sorted(rows.tolist()), device.type, free))

    monkeypatch.setattr(module, "make_resident", refuse)
    monkeypatch.setattr(module, "free_gpu_bytes", lambda _: 12345)
    monkeypatch.setattr(module.Preprocess, "to", lambda self, _: self)  # no tensor goes to a GPU that is not there
    made = make_batches(images, torch.device("cuda"), batch_size=16, balance="none", seed=3, keep_on_gpu=keep)
    rows = sorted([*made.train.rows.tolist(), *made.val.rows.tolist()])
    assert asked == ([(True, rows, "cuda", 12345)] if keep else [])
    assert all(each.ahead and each.resident is None for each in (made.train, made.val, made.plain))


def test_the_cpu_reads_the_store_batch_by_batch(image_folder, loaded):
    made = batches(loaded(image_folder(images=12)))
    assert not any(each.ahead or each.resident for each in (made.train, made.val, made.plain))
