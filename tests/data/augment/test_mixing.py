from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from cnnkit.data.augment.augment import MIXING_DRAWS, NUM_DRAWS, AugmentationStrength
from cnnkit.data.augment.mixing import beta, draw_mixture, mix
from cnnkit.data.augment.randomness import uniform
from cnnkit.data.batches import Batches
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing

CLASSES = 4
SIZE = 16
WAYS = {"mixup": (0.4, 0.0), "cutmix": (0.0, 1.0), "both": (0.4, 1.0)}
NONE = AugmentationStrength(rotate=0, flip="none", zoom=(1.0, 1.0), shift=0)


def batch(count: int, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Return images with the constant level 2 i + 1, so that a pixel tells its image, and labels."""
    images = (2 * torch.arange(count) + 1).to(torch.uint8)[:, None, None, None].expand(-1, 3, size, size)
    return images, torch.arange(count) % CLASSES


def numbers(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return uniform(seed, 0, np.arange(count), 4)


def mixed(count: int, mixup: float, cutmix: float, size: int = SIZE) -> tuple[Tensor, Tensor]:
    images, labels = batch(count, size)
    mixture = draw_mixture(numbers(count), mixup=mixup, cutmix=cutmix, height=size, width=size)
    return mix(images, labels, mixture, CLASSES)


def own_share(images: Tensor) -> Tensor:
    """Return the mean share (N,) of an image's own level in a mixed `batch`."""
    own = 2 * torch.arange(len(images)) + 1.0
    other = own.roll(1)
    return (images.mean((1, 2, 3)) - other) / (own - other)


@pytest.mark.parametrize("way", WAYS)
def test_targets_are_the_shares_of_the_classes_in_the_picture(way: str) -> None:
    images, targets = mixed(100, *WAYS[way])
    assert (images.dtype, targets.dtype, targets.shape) == (torch.float32, torch.float32, (100, CLASSES))
    torch.testing.assert_close(targets.sum(1), torch.ones(100))
    share, labels = own_share(images), torch.arange(100) % CLASSES
    expected = share[:, None] * functional.one_hot(labels) + (1 - share)[:, None] * functional.one_hot(labels.roll(1))
    torch.testing.assert_close(targets, expected, rtol=0, atol=2e-4)
    assert -1e-4 < float(share.min()) < 0.35  # a cut that the border clips leaves more
    assert 0.95 < float(share.max()) < 1.0001


def test_mixup_blends_all_pixels_of_an_image_with_one_share() -> None:
    images, targets = mixed(50, 1.0, 0)
    torch.testing.assert_close(images.amin((1, 2, 3)), images.amax((1, 2, 3)))
    torch.testing.assert_close(
        targets.gather(1, (torch.arange(50) % CLASSES)[:, None])[:, 0].double(), torch.from_numpy(beta(numbers(50)[:, 1], 1.0))
    )
    assert len({round(float(share), 4) for share in own_share(images)}) > 45


def test_cutmix_pastes_one_rectangle_of_the_neighbour() -> None:
    images, _ = mixed(100, 0, 1.0)
    levels = 2 * torch.arange(100) + 1.0
    for image, own, other in zip(images[:, 0], levels, levels.roll(1), strict=True):
        pasted = (image == other).numpy()
        assert (pasted | (image == own).numpy()).all()
        if pasted.any():
            rows, columns = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
            assert pasted.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)


@settings(deadline=None, max_examples=60)
@given(
    st.floats(0, 1, exclude_max=True, width=32), st.floats(0, 1, exclude_max=True, width=32), st.floats(0, 1, exclude_max=True, width=32)
)
def test_the_cut_equals_the_papers_code(drawn: float, across: float, down: float) -> None:
    """Compare with the authors' ``rand_bbox``: root of the share, uniform centre, clipped; the remaining pixels set the label."""
    images, labels = batch(2, 11)
    draws = np.tile(np.array([0, drawn, across, down], np.float32), (2, 1))
    got, targets = mix(images, labels, draw_mixture(draws, mixup=0, cutmix=1.0, height=11, width=11), CLASSES)
    length = int(11 * np.sqrt(1 - drawn))  # Beta(1, 1) is uniform
    x, y = int(across * 11), int(down * 11)
    left, right = np.clip([x - length // 2, x - length // 2 + length], 0, 11)
    top, bottom = np.clip([y - length // 2, y - length // 2 + length], 0, 11)
    expected = np.ones((11, 11), np.float32)
    expected[top:bottom, left:right] = 3
    np.testing.assert_array_equal(got[0, 0].numpy(), expected)
    assert float(targets[0, 0]) == pytest.approx(1 - (bottom - top) * (right - left) / 121, abs=1e-6)


def test_with_both_methods_half_of_the_images_take_each() -> None:
    images, _ = mixed(1000, 0.4, 1.0, size=8)
    blended = torch.from_numpy(numbers(1000)[:, 0] < 0.5)
    assert 430 < int(blended.sum()) < 570
    for mixup, cutmix, where in ((0.4, 0, blended), (0, 1.0, ~blended)):
        assert torch.equal(images[where], mixed(1000, mixup, cutmix, size=8)[0][where])


@pytest.mark.parametrize("concentration", [0.1, 0.4, 1.0, 3.0, 1e4])
def test_shares_are_beta_distributed(concentration: float) -> None:
    drawn = beta(numbers(4000)[:, 1], concentration)
    assert stats.kstest(drawn, stats.beta(concentration, concentration).cdf).pvalue > 0.01
    assert bool(((drawn >= 0) & (drawn <= 1)).all())


def test_a_single_image_is_mixed_with_itself() -> None:
    for way in WAYS.values():
        images, targets = mixed(1, *way)
        assert torch.equal(images, batch(1)[0].float())
        assert torch.equal(targets, torch.tensor([[1.0, 0, 0, 0]]))


# --- in batches -------------------------------------------------------------------------------------------------------


def batches(augmentation: AugmentationStrength | None, batch_size: int = 7, **settings: Any) -> Batches:
    canvases = np.random.default_rng(0).integers(0, 256, (20, 3, SIZE, SIZE), np.uint8)
    preprocess = Preprocess(Preprocessing(image_size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3))
    labels = np.arange(20) % 3  # no image of the fourth class
    return Batches(
        canvases, np.arange(20), labels, batch_size, preprocess, torch.device("cpu"), 1, augmentation, classes=CLASSES, **settings
    )


@pytest.mark.parametrize("way", WAYS)
def test_batches_yield_probabilities_that_the_loss_takes(way: str) -> None:
    mixing = replace(NONE, mixup=WAYS[way][0], cutmix=WAYS[way][1])
    assert mixing.active
    plain, varied = batches(NONE), batches(mixing)
    for (images, labels), (mixed_images, targets) in zip(plain.epoch(3), varied.epoch(3), strict=True):
        assert (targets.shape, targets.dtype) == ((len(labels), CLASSES), torch.float32)
        possible = functional.one_hot(labels, CLASSES) + functional.one_hot(labels.roll(1), CLASSES)
        assert not bool((targets[possible == 0] != 0).any())
        assert mixed_images.shape == images.shape
        assert not torch.equal(mixed_images, images)
        for criterion in (nn.CrossEntropyLoss(label_smoothing=0.1), nn.CrossEntropyLoss(weight=torch.ones(CLASSES))):
            loss = criterion(torch.zeros(len(labels), CLASSES), targets)
            assert float(loss) == pytest.approx(np.log(CLASSES), abs=1e-5)


def test_mixing_comes_last_and_uses_the_draws_of_the_sample() -> None:
    varied = AugmentationStrength(rotate=15, flip="h", zoom=(0.8, 1.2), shift=0.1, color=0.3, erase=0.5, randaugment=(1, 9))
    plain, mixing = batches(varied, 20), batches(replace(varied, mixup=0.5), 20)
    (images, labels), (mixed_images, targets) = next(iter(plain.epoch(2))), next(iter(mixing.epoch(2)))
    order = np.random.default_rng((1, 2)).permutation(20)
    share = torch.from_numpy(beta(uniform(1, 2, order, NUM_DRAWS)[:, MIXING_DRAWS][:, 1], 0.5)).float()
    expected = share[:, None, None, None] * images + (1 - share)[:, None, None, None] * images.roll(1, 0)
    torch.testing.assert_close(mixed_images, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(targets.gather(1, labels[:, None])[:, 0] >= share - 1e-6, torch.ones(20, dtype=torch.bool))


def test_equal_epochs_mix_equally_and_others_differ() -> None:
    both = batches(replace(NONE, mixup=1.0, cutmix=1.0))
    first, again, other = (torch.cat([targets for _, targets in both.epoch(number)]) for number in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_evaluation_is_never_mixed() -> None:
    assert all(labels.dtype == torch.int64 for _, labels in batches(None).epoch(0))
