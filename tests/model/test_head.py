from __future__ import annotations

import pytest
import torch
from torch import nn

from cnnkit.errors import ConfigError
from cnnkit.model.head import (
    caught_features,
    fresh_head_parameters,
    head_parameters,
    linear_head,
    mixture_of_old_classes,
    old_head,
    set_head,
)


class Network(nn.Module):
    """A network whose features are the four pixels of the image."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Flatten()
        self.head = nn.Linear(4, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images))


class Scaled(Network):
    """A network whose logits are not the outputs of its last layer."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) / 9


class Distilled(Network):
    """A network with two heads."""

    def get_classifier(self) -> tuple[nn.Module, nn.Module]:
        return self.head, nn.Linear(4, 2)


class Convolutional(nn.Module):
    """A network whose last layer is a 1 x 1 convolution, before or after the mean over the pixels."""

    def __init__(self, *, pooled: bool) -> None:
        super().__init__()
        self.pooled, self.head = pooled, nn.Conv2d(1, 2, 1, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.pooled:
            return self.head(images.mean((2, 3), keepdim=True)).flatten(1)
        return self.head(images).mean((2, 3))


# An old head of four classes: class k is an image whose pixel k is lit.
OLD = (20 * torch.eye(4), torch.zeros(4))


def lit(pixels: list[int]) -> torch.Tensor:
    return torch.eye(4)[pixels].view(-1, 1, 2, 2)


def mixed(pixels: list[int], labels: list[int]) -> torch.Tensor:
    weight, bias = mixture_of_old_classes(*OLD, torch.eye(4)[pixels], torch.tensor(labels), 2)
    assert bias.tolist() == [0, 0]
    return weight


def features(module: nn.Module, images: torch.Tensor) -> torch.Tensor | None:
    layer = linear_head(module, 2)
    assert layer is not None
    with caught_features(module, layer) as features_of:
        assert not module.training
        return features_of(images)


def test_a_new_class_starts_as_a_mixture_of_the_old_classes_predicted_for_its_images():
    # the images of class 0 were predicted as the old class 1 twice and 0 once, those of class 1 always as 2
    expected = 20 * torch.tensor([[1 / 3, 2 / 3, 0, 0], [0, 0, 1.0, 0]])
    torch.testing.assert_close(mixed([0, 1, 2, 2, 1], [0, 0, 1, 1, 0]), expected, atol=1e-3, rtol=0)


def test_an_old_class_predicted_for_all_new_classes_counts_less_than_a_specific_one():
    weight = mixed([3, 0, 3, 1], [0, 0, 1, 1])
    assert 0 < weight[0, 3] < weight[0, 0]


def test_features_are_the_inputs_of_the_last_layer_in_eval_mode():
    network = Network(2)
    found = features(network, lit([0, 3]))
    assert found is not None
    assert found.tolist() == torch.eye(4)[[0, 3]].tolist()
    assert network.training
    found = features(Convolutional(pooled=True), lit([0, 3]))
    assert found is not None
    assert found.tolist() == [[0.25], [0.25]]


@pytest.mark.parametrize("network", [Scaled(2), Convolutional(pooled=False)], ids=["scaled", "maps"])
def test_a_network_that_is_not_linear_in_its_last_layer_gives_no_features(network):
    assert features(network, lit([0, 3])) is None
    assert network.training


def test_a_head_of_several_layers_or_of_larger_filters_is_no_linear_head():
    assert linear_head(nn.Sequential(nn.Conv2d(1, 2, 3)), 2) is None
    assert linear_head(Distilled(2), 2) is None


def test_a_set_head_gives_the_logits_of_its_weight_and_bias():
    network = Network(2)
    weight, bias = torch.arange(8.0).view(2, 4), torch.tensor([0.5, -0.5])
    set_head(network.head, weight, bias)
    assert network(lit([1])).tolist() == [[1.5, 4.5]]
    convolution = Convolutional(pooled=True)
    set_head(convolution.head, torch.tensor([[4.0], [8.0]]), bias)  # the layer has no bias
    assert convolution(lit([1])).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("shape", [(7, 4), (7, 4, 1, 1)])
def test_the_old_head_is_found_by_its_name(shape):
    network = Network(2)
    found = old_head(network, network.head, {"head.weight": torch.ones(shape)})
    assert found is not None
    assert (found[0].shape, found[1].tolist()) == ((7, 4), [0.0] * 7)


@pytest.mark.parametrize("old", [{}, {"other.weight": torch.ones(7, 4)}, {"head.weight": torch.ones(7, 9)}])
def test_an_old_head_of_another_input_is_not_used(old):
    network = Network(2)
    assert old_head(network, network.head, old) is None


def test_only_parameters_of_the_head_that_no_file_filled_are_fresh():
    network = Network(2)
    assert fresh_head_parameters(network, 2, frozenset({"body.weight", "head.bias"})) == {"head.bias"}
    assert fresh_head_parameters(network, 5, frozenset({"head.bias"})) == set()


def test_freezing_needs_a_head_that_can_be_found():
    with pytest.raises(ConfigError, match="no Linear or Conv2d layer with 5 outputs, so its head cannot be found; use --freeze-epochs 0"):
        head_parameters(Network(2), 5)
