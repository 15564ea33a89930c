from __future__ import annotations

import pytest
import torch
from torch import nn

from cnnkit.errors import ConfigError
from cnnkit.model.head import head_parameters, start_head


class Network(nn.Module):
    """A network whose features are the four pixels of the image."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Flatten()
        self.head = nn.Linear(4, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images))


# An old head of four classes: class k is an image whose pixel k is lit.
OLD = {"head.weight": 20 * torch.eye(4), "head.bias": torch.zeros(4)}
FRESH = frozenset({"head.weight", "head.bias"})


def lit(pixels: list[int]) -> torch.Tensor:
    return torch.eye(4)[pixels].view(-1, 1, 2, 2)


def test_a_new_class_starts_as_a_mixture_of_the_old_classes_predicted_for_its_images():
    network = Network(2)
    examples = [(lit([0, 1, 2]), torch.tensor([0, 0, 1])), (lit([2, 1]), torch.tensor([1, 0]))]
    said = start_head(network, 2, FRESH, OLD, iter(examples))
    assert said == "the new last layer starts as a mixture of the old classes, by their probabilities on training images"
    # the images of class 0 were predicted as the old class 1 twice and 0 once, those of class 1 always as 2
    torch.testing.assert_close(network.head.weight.detach(), 20 * torch.tensor([[1 / 3, 2 / 3, 0, 0], [0, 0, 1.0, 0]]), atol=1e-3, rtol=0)
    assert network(lit([0, 1, 2])).argmax(1).tolist() == [0, 0, 1]
    assert network.training


def test_an_old_class_predicted_for_all_new_classes_counts_less_than_a_specific_one():
    network = Network(2)
    start_head(network, 2, FRESH, OLD, [(lit([3, 0, 3, 1]), torch.tensor([0, 0, 1, 1]))])
    shared, own = network.head.weight[0, 3], network.head.weight[0, 0]
    assert 0 < shared < own


@pytest.mark.parametrize("old", [{}, {"head.weight": torch.ones(7, 9), "head.bias": torch.ones(7)}])
def test_without_a_fitting_old_layer_the_head_starts_at_zero(old):
    network = Network(2)
    assert start_head(network, 2, FRESH, old, [(lit([0, 1]), torch.tensor([0, 1]))]) == "the new last layer starts at zero"
    assert not network.head.weight.any()
    assert not network.head.bias.any()


def test_a_loaded_head_does_not_change():
    network = Network(2)
    before = network.head.weight.clone()
    assert start_head(network, 2, frozenset({"body.weight"}), OLD, []) is None
    assert torch.equal(network.head.weight, before)


def test_an_old_head_may_lack_a_bias():
    network = Network(2)
    start_head(network, 2, FRESH, {"head.weight": OLD["head.weight"]}, [(lit([0, 1]), torch.tensor([0, 1]))])
    assert not network.head.bias.any()
    assert network.head.weight.any()


def test_freezing_needs_a_head_that_can_be_found():
    with pytest.raises(ConfigError, match="no Linear or Conv2d layer with 5 outputs, so its head cannot be found; use --freeze-epochs 0"):
        head_parameters(Network(2), 5)
