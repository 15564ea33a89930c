from __future__ import annotations

import pytest
import torch
from torch import nn

from cnnkit.architectures.mirrored import MirroredBatchNorm2d, MirroredConv2d, TwinMean


def swapped(maps: torch.Tensor) -> torch.Tensor:
    """Swap the two halves of the channels."""
    return maps.roll(maps.shape[1] // 2, dims=1)


def test_the_second_half_of_the_filters_mirrors_the_first() -> None:
    layer = MirroredConv2d(nn.Conv2d(6, 8, 3, padding=1, bias=False))
    maps = torch.randn(2, 6, 9, 7)
    out = layer(maps)
    assert out.shape == (2, 8, 9, 7)
    torch.testing.assert_close(out[:, :4], nn.functional.conv2d(maps, layer.weight, padding=1))
    torch.testing.assert_close(swapped(layer(swapped(maps.flip(3))).flip(3)), out, atol=1e-6, rtol=1e-5)


def test_twins_of_the_inputs_may_have_another_order() -> None:
    twins = torch.tensor([0, 2, 1])
    layer = MirroredConv2d(nn.Conv2d(3, 4, 3, padding=1, bias=False), twins)
    maps = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(swapped(layer(maps[:, twins].flip(3)).flip(3)), layer(maps), atol=1e-6, rtol=1e-5)
    assert list(layer.state_dict()) == ["weight"]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_twins_are_normalised_as_one_channel(memory_format: torch.memory_format) -> None:
    norm, plain = MirroredBatchNorm2d(3), nn.BatchNorm2d(3)
    for layer in (norm, plain):
        nn.init.uniform_(layer.weight, generator=torch.Generator().manual_seed(0))
        nn.init.uniform_(layer.bias, generator=torch.Generator().manual_seed(1))
    maps = torch.randn(4, 6, 5, 7).to(memory_format=memory_format)
    joined = torch.cat(maps.chunk(2, dim=1))  # twins in one channel, of twice as many images
    for training in (True, False):
        norm.train(training)
        plain.train(training)
        expected = torch.cat(plain(joined).chunk(2), dim=1)
        out = norm(maps)
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
        assert out.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(norm.running_var, plain.running_var)


def test_twins_are_averaged() -> None:
    features = torch.tensor([[1.0, 2.0, 3.0, 6.0]])
    assert TwinMean()(features).tolist() == [[2.0, 4.0]]
    assert TwinMean()(swapped(features)).tolist() == [[2.0, 4.0]]
