from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from cnnkit.data.augment.augment import AugmentationStrength, augment, draw_numbers
from cnnkit.data.batches import Batches, channel_statistics, class_weights, normalised_by
from cnnkit.data.image import read_image
from cnnkit.data.sources.folder import FolderSource
from cnnkit.data.store.facts import Facts
from cnnkit.data.store.index import FactColumns
from cnnkit.data.store.scan import Scan, scan
from cnnkit.data.store.stream import gather
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing

CPU = torch.device("cpu")
NONE = AugmentationStrength(rotate=0, flip="none", zoom=(1.0, 1.0), shift=0)
ALL = AugmentationStrength(rotate=20, flip="h", zoom=(0.8, 1.2), shift=0.1)
SIZE = 6
NUMBERED = Preprocess(Preprocessing(image_size=SIZE, mean=(0.0,) * 3, std=(1 / 255,) * 3))  # 0..255 as they are


def canvases(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return images with their index in the red channel and noise in the others."""
    images = np.random.default_rng(0).integers(0, 256, (number, 3, SIZE, SIZE), np.uint8)
    images[:, 0] = np.arange(number, dtype=np.uint8)[:, None, None]
    return images


def make(labels: list[int], batch_size: int = 4, augmentation: AugmentationStrength | None = NONE, **settings: Any) -> Batches:
    """Return batches over every second image of a store: sample i is image 2 i + 1."""
    count = len(labels)
    return Batches(
        canvases(2 * count + 2),
        2 * np.arange(count) + 1,
        np.array(labels),
        batch_size,
        NUMBERED,
        CPU,
        augmentation=augmentation,
        **settings,
    )


def samples(batches: Batches, epoch: int) -> list[int]:
    return [round((float(image[0].mean()) - 1) / 2) for images, _ in batches.epoch(epoch) for image in images]


def tensors(batches: Batches, epoch: int) -> tuple[Tensor, Tensor]:
    parts = list(batches.epoch(epoch))
    return torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts])


def test_a_batch_has_the_shapes_and_types_that_the_network_takes() -> None:
    images, labels = next(iter(make([0, 1, 2, 0, 1]).epoch(1)))
    assert (images.shape, images.dtype) == ((3, 3, SIZE, SIZE), torch.float32)
    assert (labels.shape, labels.dtype) == ((3,), torch.int64)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 5), st.booleans())
def test_an_epoch_holds_every_sample_once_in_batches_of_nearly_equal_size(count: int, batch_size: int, epoch: int, train: bool) -> None:
    batches = make([index % 3 for index in range(count)], batch_size, NONE if train else None)
    sizes = [len(labels) for _, labels in batches.epoch(epoch)]
    assert sorted(samples(batches, epoch)) == list(range(count))
    assert (len(sizes), sum(sizes)) == (batches.steps, batches.images)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1  # no tiny last batch
    assert len(sizes) == -(-count // batch_size)


def test_labels_belong_to_their_images() -> None:
    labels = [3, 1, 4, 1, 5, 9, 2, 6]
    for augmentation in (None, NONE, ALL):
        batches = make(labels, 3, augmentation)
        assert tensors(batches, 2)[1].tolist() == [labels[index] for index in samples(batches, 2)]


def test_an_epoch_can_be_repeated_bit_by_bit() -> None:
    batches = make([0, 1] * 10, 7, ALL)
    first, again = tensors(batches, 3), tensors(replace(batches), 3)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_epochs_and_seeds_differ_in_order_and_in_augmentation() -> None:
    batches = make([0, 1] * 10, 7, ALL)
    orders = {tuple(samples(other, epoch)) for other in (batches, replace(batches, seed=1)) for epoch in (1, 2, 3)}
    assert len(orders) == 6
    looks = set[bytes]()
    for epoch in (1, 2, 3):
        position = samples(batches, epoch).index(5)
        looks.add(tensors(batches, epoch)[0][position].numpy().tobytes())
    assert len(looks) == 3


def test_the_augmentation_of_an_image_does_not_depend_on_its_batch() -> None:
    small, large = make([0, 1] * 10, 3, ALL), make([0, 1] * 10, 20, ALL)
    assert samples(small, 4) == samples(large, 4)
    torch.testing.assert_close(tensors(small, 4)[0], tensors(large, 4)[0], rtol=0, atol=1e-4)


def test_random_numbers_depend_on_the_sample_and_the_epoch_alone() -> None:
    """They do not depend on the position in the order, which changes with the number of images."""
    batches = make([0, 1] * 5, 4, ALL, seed=3)
    images, _ = tensors(batches, 2)
    for image, sample in zip(images, samples(make([0, 1] * 5, 4, NONE, seed=3), 2), strict=True):
        draws = torch.from_numpy(draw_numbers(3, 2, np.array([sample])))
        expected = augment(torch.from_numpy(next(gather(batches.canvases, [batches.rows[[sample]]]))), draws, ALL)
        torch.testing.assert_close(image, expected[0], rtol=0, atol=1e-3)


def test_an_augmented_batch_differs_from_a_plain_batch() -> None:
    plain, varied = make([0] * 8, 8, NONE), make([0] * 8, 8, ALL)
    assert not torch.equal(tensors(plain, 1)[0], tensors(varied, 1)[0])
    images, _ = tensors(plain, 1)
    torch.testing.assert_close(
        images, torch.from_numpy(next(gather(plain.canvases, [plain.rows[samples(plain, 1)]]))).float(), rtol=0, atol=1e-4
    )


def test_evaluation_is_in_order_and_the_same_in_every_epoch() -> None:
    batches = make([0, 1] * 5, 4, None)
    assert samples(batches, 0) == samples(batches, 7) == list(range(10))


@pytest.mark.parametrize("mode", ["crop", "pad", "squash"])
@pytest.mark.parametrize("channels", [1, 3])
def test_evaluation_gives_the_same_tensors_as_preprocess_on_the_files(image_folder, mode: Any, channels: Any) -> None:
    root: Path = image_folder({"ants": 3, "bees": 2}, size=(37, 23))
    spec = Preprocessing(
        image_size=16, channels=channels, resize_mode=mode, mean=(0.4, 0.5, 0.6)[:channels], std=(0.2, 0.3, 0.1)[:channels]
    )
    preprocess = Preprocess(spec)
    source = FolderSource(root)
    store = scan(source, source.records, spec)
    assert store.canvases is not None
    batches = Batches(store.canvases, np.array([4, 0, 2]), np.array([1, 0, 0]), 2, preprocess, CPU)
    images, labels = tensors(batches, 0)
    for image, row in zip(images, (4, 0, 2), strict=True):
        file = torch.from_numpy(read_image(root / source.records[row].path).copy())
        assert torch.equal(image, preprocess(file[None])[0])
    assert labels.tolist() == [1, 0, 0]


def test_the_sampler_draws_every_class_as_often_as_the_largest_class() -> None:
    labels = [0] * 20 + [1] * 7 + [3] * 2  # this split has no class 2
    batches = make(labels, 8, balanced=True)
    assert batches.images == 60
    for epoch in (1, 2):
        assert Counter(tensors(batches, epoch)[1].tolist()) == {0: 20, 1: 20, 3: 20}
        drawn = Counter(samples(batches, epoch))
        assert set(drawn) == set(range(29))  # no image is left out
        assert {drawn[index] for index in range(20)} == {1}
        assert {drawn[index] for index in range(20, 27)} == {2, 3}
        assert {drawn[index] for index in range(27, 29)} == {10}


def test_the_sampler_repeats_other_images_in_another_epoch() -> None:
    batches = make([0] * 10 + [1] * 7, 4, balanced=True)
    twice = {epoch: {index for index, count in Counter(samples(batches, epoch)).items() if count == 2} for epoch in range(4)}
    assert all(len(some) == 3 for some in twice.values())
    assert len({frozenset(some) for some in twice.values()}) > 1


def test_the_sampler_mixes_the_classes() -> None:
    labels = tensors(make([0] * 50 + [1] * 5, 8, balanced=True), 1)[1].tolist()
    assert 30 < sum(one != other for one, other in pairwise(labels)) < 70


def test_repetitions_of_an_image_are_augmented_differently() -> None:
    batches = make([0] * 12 + [1], 5, ALL, balanced=True)
    images, labels = tensors(batches, 1)
    looks = {image.numpy().tobytes() for image in images[labels == 1]}
    assert len(looks) == 12


def test_evaluation_is_never_balanced() -> None:
    assert samples(replace(make([0] * 5 + [1], 4, None), balanced=True), 0) == list(range(6))


def test_channel_statistics_equal_mean_and_std_of_numpy() -> None:
    images = np.random.default_rng(1).integers(0, 256, (700, 3, 5, 5), np.uint8)
    images[:, 1] //= 3
    rows = np.random.default_rng(2).permutation(700)[:600]
    mean, std = channel_statistics(images, rows)
    chosen = images[rows].astype(np.float64) / 255
    assert mean == pytest.approx(chosen.mean((0, 2, 3)), rel=1e-12)
    assert std == pytest.approx(chosen.std((0, 2, 3)), rel=1e-9)
    assert all(type(value) is float for value in (*mean, *std))


def test_a_store_caches_the_statistics_by_rows(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 4, 4), np.uint8)
    rows, plain = np.arange(6), Preprocessing(image_size=4, mean=(0.0,) * 3, std=(1.0,) * 3)
    facts = FactColumns.of(Facts(sha256=f"{row:064x}") for row in range(8))
    store = Scan(facts, images, images, images, tmp_path, reused=True)
    black = replace(store, canvases=np.zeros_like(images))
    first = normalised_by(store, plain, rows)
    assert (first.mean, first.std) == channel_statistics(images, rows)
    assert normalised_by(black, plain, rows) == first  # the canvases are not read again
    assert normalised_by(store, plain, rows[1:]) != first
    assert normalised_by(replace(black, folder=None), plain, rows) != first
    assert normalised_by(replace(black, facts=facts[::-1]), plain, rows) != first  # the rows are of other images


def test_channel_statistics_of_gray_have_one_channel() -> None:
    assert channel_statistics(np.full((2, 1, 4, 4), 51, np.uint8), np.array([0, 1])) == ((pytest.approx(0.2),), (pytest.approx(1 / 255),))


def test_constant_images_are_not_divided_by_zero() -> None:
    _, std = channel_statistics(np.zeros((3, 3, 4, 4), np.uint8), np.arange(3))
    assert std == (1 / 255,) * 3


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=50).map(lambda labels: [*labels, 0, 1, 2, 3]))
def test_class_weights_equal_scikit_learns_balanced_weights(labels: list[int]) -> None:
    weights = class_weights(np.array(labels), ["a", "b", "c", "d"])
    assert weights.dtype == torch.float32
    np.testing.assert_allclose(weights.numpy(), compute_class_weight("balanced", classes=np.arange(4), y=np.array(labels)), rtol=1e-6)
    assert float(weights[torch.tensor(labels)].mean()) == pytest.approx(1)


def test_a_class_without_images_has_a_finite_weight() -> None:
    assert bool(torch.isfinite(class_weights(np.array([0, 0]), ["a", "b"])).all())


def test_an_epoch_that_starts_at_a_later_batch_gives_the_same_batches() -> None:
    batches = make([0, 1, 2] * 5, batch_size=4, augmentation=ALL, seed=3)
    whole, rest = list(batches.epoch(2)), list(batches.epoch(2, 2))
    assert len(rest) == len(whole) - 2 > 0
    for (images, labels), (others, other_labels) in zip(rest, whole[2:], strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.4}, {"mixup": 0.4, "cutmix": 1.0}], ids=["plain", "mixup", "both"])
def test_the_parts_of_a_batch_are_those_of_the_whole_batch(parts: int, mixing: dict[str, float]) -> None:
    """Each image of a part is mixed with the image before it in the whole batch, which may belong to another part."""
    whole = make([index % 3 for index in range(23)], 8, replace(ALL, **mixing), classes=3)
    divided = [replace(whole, part=part, parts=parts).epoch(2, 1) for part in range(parts)]
    for (images, labels), *pieces in zip(whole.epoch(2, 1), *divided, strict=True):
        sizes = [len(own) for own, _ in pieces]
        assert max(sizes) - min(sizes) <= 1
        assert torch.equal(torch.cat([own for _, own in pieces]), labels)
        assert torch.allclose(torch.cat([own for own, _ in pieces]), images, atol=1e-4)


@pytest.mark.parametrize(("images", "batch_size", "parts"), [(10, 4, 1), (11, 4, 1), (12, 4, 1), (3, 8, 1), (11, 5, 2), (23, 6, 3)])
def test_the_usual_size_is_that_of_most_batches(images: int, batch_size: int, parts: int) -> None:
    for part in range(parts):
        batches = replace(make([0] * images, batch_size), part=part, parts=parts)
        sizes = [len(labels) for _, labels in batches.epoch(0)]
        share = sizes.count(batches.usual_size) / len(sizes)
        assert share >= 0.5
        assert share >= batches.usual_share
