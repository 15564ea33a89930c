from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from cnnkit.architectures.stem import keep_resolution


def network(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def test_stride_and_pooling_of_a_residual_stem_are_removed() -> None:
    stem = network(conv1=nn.Conv2d(3, 4, 7, stride=2, padding=3), maxpool=nn.MaxPool2d(3, stride=2, padding=1))
    assert keep_resolution(stem, ["conv1"])
    assert stem(torch.randn(1, 3, 32, 32)).shape == (1, 4, 32, 32)


def test_weights_keep_their_names_and_shapes() -> None:
    stem = network(conv1=nn.Conv2d(3, 4, 7, stride=2, padding=3), maxpool=nn.MaxPool2d(3, stride=2, padding=1))
    before = {name: tensor.shape for name, tensor in stem.state_dict().items()}
    keep_resolution(stem, ["conv1"])
    assert {name: tensor.shape for name, tensor in stem.state_dict().items()} == before


def test_a_pooling_with_weights_stays() -> None:
    pool = nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, padding=1))
    stem = network(conv1=nn.Conv2d(3, 4, 7, stride=2, padding=3), maxpool=pool)
    keep_resolution(stem, ["conv1"])
    assert stem.get_submodule("maxpool") is pool


def test_patches_of_a_convolutional_network_overlap() -> None:
    stem = network(stem=nn.Conv2d(3, 4, 4, stride=4), down=nn.Conv2d(4, 4, 2, stride=2))
    assert keep_resolution(stem, ["stem"])
    assert stem(torch.randn(1, 3, 32, 32)).shape == (1, 4, 16, 16)


def test_without_a_pooling_the_first_reducing_block_keeps_its_size_too() -> None:
    block = nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4), nn.Conv2d(4, 4, 1))
    later = nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, padding=1))
    stages = nn.Sequential(nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1))), nn.Sequential(block), nn.Sequential(later))
    mobile = network(conv_stem=nn.Conv2d(3, 4, 3, stride=2, padding=1), blocks=stages)
    keep_resolution(mobile, ["conv_stem"])
    assert mobile(torch.randn(1, 3, 32, 32)).shape == (1, 4, 16, 16)


def test_patches_for_attention_and_stems_without_reduction_do_not_change() -> None:
    attention = network(patch_embed=nn.Conv2d(3, 4, 16, stride=16))
    assert not keep_resolution(attention, ["patch_embed"])
    assert attention(torch.randn(1, 3, 32, 32)).shape == (1, 4, 2, 2)
    assert not keep_resolution(network(conv1=nn.Conv2d(3, 4, 3, padding=1)), ["conv1"])
