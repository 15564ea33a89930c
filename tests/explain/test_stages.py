from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnkit.architecture import parse_options
from cnnkit.explain.stages import MAX_CHANNELS, FeatureMaps
from cnnkit.registry import load_architecture


def build(name: str, *settings: str, image_size: int = 0) -> nn.Module:
    torch.manual_seed(0)
    architecture, _ = load_architecture(name)
    options = parse_options(architecture, name, settings)
    return architecture.build(2, 3, **(options | ({"image_size": image_size} if image_size else {})))


@pytest.mark.parametrize(
    ("name", "settings", "size", "expected"),
    [
        ("custom-cnn", ["width=4"], 32, [(32, "1"), (16, "4"), (8, "7")]),
        ("residual-cnn", ["width=4"], 32, [(32, "1"), (16, "4"), (8, "6"), (4, "8")]),
        ("fast-cnn", ["width=4"], 32, [(31, "1"), (15, "2"), (7, "3"), (3, "4")]),
        ("timm/resnet18", [], 64, [(32, "act1"), (16, "layer1"), (8, "layer2"), (4, "layer3"), (2, "layer4")]),
        ("timm/tf_efficientnet_lite0", [], 64, [(32, "blocks.0"), (16, "blocks.1"), (8, "blocks.2"), (4, "blocks.4"), (2, "blocks")]),
    ],
)
def test_a_stage_is_the_last_block_before_its_maps_get_smaller(name, settings, size, expected, model_of):
    layers = FeatureMaps(model_of(build(name, *settings), size=size)).layers
    assert [(layer.grid.size, layer.name) for layer in layers] == expected


def test_a_transformer_is_shown_at_four_depths(model_of, noise):
    features = FeatureMaps(model_of(build("timm/vit_tiny_patch16_224", image_size=64), size=64))
    assert [layer.name for layer in features.layers] == ["blocks.0", "blocks.4", "blocks.7", "blocks.11"]
    (stages,) = features.stages(noise(1, 64))
    assert [stage.maps.shape for stage in stages] == [(MAX_CHANNELS, 4, 4)] * 4


def test_the_channels_that_vary_most_come_first_with_their_own_maps(model_of, noise):
    """Channels are multiples of the red canvas, except for the fourth, which is constant."""
    layer = nn.Conv2d(3, 4, 1)
    layer.weight.data.zero_()
    layer.weight.data[:, 0, 0, 0] = torch.tensor([1.0, 3.0, 2.0, 0.0])
    layer.bias.data = torch.tensor([0.0, 0.0, 0.0, 100.0])  # pyright: ignore[reportOptionalMemberAccess]
    network = nn.Sequential(layer, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    canvases = noise(3, 8)
    features = FeatureMaps(model_of(network))
    for canvas, stages in zip(canvases, features.stages(canvases), strict=True):
        (stage,) = stages
        assert (stage.layer, stage.size, stage.channels, stage.shown) == ("1", 8, 4, (1, 2, 0, 3))
        np.testing.assert_allclose(stage.maps[0], 3 * canvas[0].float() / 255, rtol=1e-6)
    assert not any(part._forward_hooks for part in network.modules())


def test_attention_weights_are_not_maps(model_of):
    """The 6 x 6 weights of attention among channels are square, like an image."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.maps = nn.Conv2d(3, 6, 1)
            self.weights = nn.Softmax(-1)
            self.drop = nn.Dropout()
            self.head = nn.Linear(6, 2)

        def forward(self, images: Tensor) -> Tensor:
            seen = self.maps(images).flatten(2)
            weights = self.drop(self.weights((seen @ seen.transpose(1, 2))[:, None]))[:, 0]
            return self.head((weights @ seen).mean(2))

    assert [layer.name for layer in FeatureMaps(model_of(Attention())).layers] == ["maps"]


def test_a_network_without_maps_has_no_stages(model_of, noise):
    features = FeatureMaps(model_of(nn.Sequential(nn.Flatten(), nn.Linear(192, 2))))
    assert features.stages(noise(2, 8)) == [(), ()]
