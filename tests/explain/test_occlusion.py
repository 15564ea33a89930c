from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnkit.explain.occlusion import Occlusion


class Bright(nn.Module):
    """A network whose class 0 depends on the brightness of the upper left quarter alone."""

    def forward(self, images: Tensor) -> Tensor:
        seen = images[..., :4, :4].mean((1, 2, 3))
        return torch.stack([6 * seen, 6 * (1 - seen)], 1)


@pytest.fixture
def canvas() -> Tensor:
    """Return a white quarter on black, with mean colour 64."""
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    image[..., :4, :4] = 255
    return image


def test_a_drop_is_that_of_the_probability_under_a_patch_of_the_mean_colour(model_of, canvas):
    model = model_of(Bright())
    occlusion = Occlusion(model)
    assert (occlusion.patch, occlusion.step) == (2, 1)
    drops = occlusion.drops(canvas, [0])
    assert drops.shape == (1, 7, 7)
    hidden = canvas.clone()
    hidden[..., 1:3, 2:4] = 64
    whole, without = (model.module(images / 255).softmax(1)[0, 0] for images in (canvas, hidden))
    assert drops[0, 1, 2] == pytest.approx(float(whole - without), abs=1e-6)
    assert drops[0, 1, 2] > 0.01
    np.testing.assert_allclose(drops[0, 4:], 0, atol=1e-7)
    np.testing.assert_allclose(drops[0, :, 4:], 0, atol=1e-7)
    np.testing.assert_allclose(occlusion.drops(canvas, [1]), -drops, atol=1e-6)


def test_heat_is_highest_where_the_drop_is_largest(model_of, canvas):
    occlusion = Occlusion(model_of(Bright()))
    heat = occlusion.heat_maps(canvas, [0])[0]
    assert heat[1:3, 1:3].min() == heat.max() == 1
    assert heat[5:].max() == heat[:, 5:].max() == 0
    assert not occlusion.heat_maps(canvas, [1]).any()


def test_agreement_is_the_rank_correlation_over_the_positions(model_of, canvas):
    occlusion = Occlusion(model_of(Bright()))
    drops = occlusion.drops(canvas, [0])[0]
    right = np.zeros((8, 8), np.float32)
    right[:4, :4] = 1
    assert occlusion.agreement(right, drops) == pytest.approx(1, abs=0.05)
    assert (occlusion.agreement(1 - right, drops) or 0) < -0.9
    assert (occlusion.agreement(np.sqrt(right + 0.1), drops) or 0) == pytest.approx(occlusion.agreement(right, drops), abs=1e-6)
    assert occlusion.agreement(np.zeros((8, 8), np.float32), drops) is None
    assert occlusion.agreement(right, np.zeros_like(drops)) is None


@pytest.mark.parametrize("size", [1, 2, 5, 32])
def test_the_patch_reaches_every_pixel(size, model_of, noise):
    class Mean(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :2]

    occlusion = Occlusion(model_of(Mean(), size=size))
    heat = occlusion.heat_maps(noise(2, size), [0, 1])
    assert heat.shape == (2, size, size)
    assert np.isfinite(heat).all()
    assert occlusion.drops(noise(0, size), []).shape[0] == 0
