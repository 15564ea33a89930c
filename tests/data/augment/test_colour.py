from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from cnnkit.data.augment.colour import jitter

MIDDLE = 0.5  # the draw of factor 1


def noise(count: int, channels: int = 3, size: int = 9) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, channels, size, size), np.uint8))


def of_torchvision(image: Tensor, factors: list[float]) -> Tensor:
    brightness, contrast, saturation = factors
    return vision.adjust_saturation(vision.adjust_contrast(vision.adjust_brightness(image, brightness), contrast), saturation)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.floats(0, 1), st.sampled_from([1, 3]))
def test_every_image_equals_torchvisions_with_its_own_factors(seed: int, reach: float, channels: int) -> None:
    images, draws = noise(4, channels), torch.rand((4, 3), generator=torch.Generator().manual_seed(seed))
    got = jitter(images, draws, reach)
    assert (got.dtype, got.shape) == (torch.float32, images.shape)
    factors = (1 + reach * (2 * draws.double() - 1)).tolist()
    for image, varied, chosen in zip(images, got, factors, strict=True):
        torch.testing.assert_close(varied, 255 * of_torchvision(image / 255, chosen), rtol=0, atol=1e-2)


@pytest.mark.parametrize("which", range(3), ids=["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("draw", [0.0, 0.3, 0.8, 1.0])
def test_each_factor_alone_is_within_a_level_of_torchvision_on_bytes(which: int, draw: float) -> None:
    images, draws = noise(2), torch.full((2, 3), MIDDLE)
    draws[:, which] = draw
    factors = [1.0, 1.0, 1.0]
    factors[which] = 1 + 0.5 * (2 * draw - 1)
    expected = of_torchvision(images, factors).float()
    assert float((jitter(images, draws, 0.5).round() - expected).abs().max()) <= 1  # torchvision cuts the fraction off
    assert not torch.equal(expected, images.float())


def test_gray_images_have_no_saturation() -> None:
    images, draws = noise(2, channels=1), torch.full((2, 3), MIDDLE)
    draws[:, 2] = 1.0
    torch.testing.assert_close(jitter(images, draws, 0.9), images.float(), rtol=0, atol=1e-3)


def test_the_middle_draw_changes_nothing_and_the_input_stays_unchanged() -> None:
    for images in (noise(3), noise(3).float()):
        before = images.clone()
        torch.testing.assert_close(jitter(images, torch.full((3, 3), MIDDLE), 0.8), before.float(), rtol=0, atol=1e-3)
        jitter(images, torch.rand((3, 3)), 0.8)
        assert torch.equal(images, before)


def test_values_stay_in_their_range() -> None:
    images = noise(64) // 128 * 255
    got = jitter(images, torch.rand((64, 3), generator=torch.Generator().manual_seed(0)).round(), 1.0)
    assert 0 <= float(got.min()) <= float(got.max()) <= 255
