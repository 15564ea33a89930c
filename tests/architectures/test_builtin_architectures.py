"""The duties of every built-in architecture: the contract, any image size, any number of channels, clear errors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from cnnkit.architecture import parse_options
from cnnkit.errors import CnnkitError
from cnnkit.registry import load_architecture
from cnnkit.testing import check_architecture

BUILTIN = ("custom-cnn", "deep-cnn-8", "deep-cnn-14", "fast-cnn", "residual-cnn")


def build(name: str, *settings: str, num_classes: int = 10, channels: int = 3) -> nn.Module:
    architecture, _ = load_architecture(name)
    return architecture.build(num_classes, channels, **parse_options(architecture, name, settings)).eval()


@pytest.mark.parametrize("name", BUILTIN)
def test_keeps_the_contract_of_architectures(name: str) -> None:
    architecture, entry = load_architecture(name)
    assert entry.package == "cnnkit"
    check_architecture(replace(architecture, image_size=48), name)  # 48 px: the same layers in a seventh of the time of 128 px


@pytest.mark.parametrize("name", BUILTIN)
@pytest.mark.parametrize("size", [1, 8, 13, 100])
def test_takes_images_of_any_size(name: str, size: int) -> None:
    with torch.no_grad():
        logits = build(name, "width=8")(torch.randn(2, 3, size, size))
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", BUILTIN)
def test_width_widens_every_layer(name: str) -> None:
    narrow, wide = (sum(parameter.numel() for parameter in build(name, f"width={width}").parameters()) for width in (8, 16))
    assert 1.9 * narrow < wide < 4.1 * narrow


@pytest.mark.parametrize("name", BUILTIN)
def test_fresh_logits_are_neither_silent_nor_confident(name: str) -> None:
    """The first loss should be near ln(K): with logits far from zero, the first steps would be large and useless."""
    torch.manual_seed(0)
    with torch.no_grad():
        logits = build(name, "width=16").train()(torch.randn(8, 3, 48, 48))
    assert 0.05 < logits.std() < 2


@pytest.mark.parametrize("name", BUILTIN)
@pytest.mark.parametrize(("setting", "allowed"), [("width=0", "at least 1"), ("dropout=1.5", "below 1")])
def test_an_option_out_of_range_is_refused_by_name(name: str, setting: str, allowed: str) -> None:
    with pytest.raises(CnnkitError, match=f"--set {setting}: option .* must be .*{allowed}"):
        build(name, setting)


def test_custom_cnn_has_the_layers_of_the_case_study() -> None:
    kinds = [type(layer).__name__ for layer in build("custom-cnn").children()]
    assert kinds == [*["Conv2d", "ReLU", "MaxPool2d"] * 3, "AverageGrid", "Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    widths = [layer.out_channels for layer in build("custom-cnn").modules() if isinstance(layer, nn.Conv2d)]
    assert widths == [32, 64, 128]


def test_custom_cnn_at_32_pixels_flattens_without_pooling() -> None:
    network = build("custom-cnn", "width=4")
    assert isinstance(network, nn.Sequential)
    maps = network[:9](torch.randn(2, 3, 32, 32))
    assert maps.shape == (2, 16, 4, 4)
    assert torch.equal(network[9](maps), maps)


def test_custom_cnn_has_the_options_blocks_dense_and_dropout() -> None:
    network = build("custom-cnn", "blocks=5", "width=4", "dense=17", "dropout=0.25")
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in network.modules()) == 5
    assert [layer.out_features for layer in network.modules() if isinstance(layer, nn.Linear)] == [17, 10]
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.25]


def test_custom_cnn_limits_its_blocks() -> None:
    with pytest.raises(CnnkitError, match=r"--set blocks=20: option .* must be of type int, from 1 to 8"):
        build("custom-cnn", "blocks=20")


@pytest.mark.parametrize(("name", "layers"), [("deep-cnn-8", 8), ("deep-cnn-14", 14)])
def test_the_name_of_a_deep_cnn_counts_its_layers_with_weights(name: str, layers: int) -> None:
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in build(name).modules()) == layers


def test_deep_cnn_14_has_the_convolutions_of_vgg_16() -> None:
    widths = [layer.out_channels for layer in build("deep-cnn-14", "width=64").modules() if isinstance(layer, nn.Conv2d)]
    assert widths == [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]


def test_residual_cnn_adds_the_input_of_its_blocks() -> None:
    network = build("residual-cnn", "width=8")
    assert isinstance(network, nn.Sequential)
    residual = network[3]
    for parameter in residual.parameters():
        nn.init.zeros_(parameter)
    images = torch.randn(2, 16, 8, 8)
    assert torch.equal(residual(images), images)
