from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.step import Step

CPU = Runtime(torch.device("cpu"))


class Branches(nn.Module):
    """A network of which an image with a negative mean takes another branch, with a constant, a statistic and an unused layer."""

    def __init__(self) -> None:
        super().__init__()
        self.usual, self.rare, self.unused = (nn.Linear(3, 2) for _ in range(3))
        self.register_buffer("constant", torch.tensor([0.1, -math.inf]))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.seen += images.sum()
        values = images.flatten(1)
        return self.rare(values) if float(values.mean()) < 0 else self.usual(values)


def step_on(ranks, images: Tensor, labels: Tensor):
    """Make one step of a rank with its part of the images."""
    torch.manual_seed(0)
    model = Branches()
    step = Step(model, torch.optim.SGD(model.parameters(), lr=0.1), OptimConfig(clip_grad=0.5), CPU, torch.tensor([1.0, 3.0]), ranks=ranks)
    own = torch.arange(len(images)).tensor_split(ranks.world)[ranks.rank]
    group = [(images[own], labels[own])]
    weights = step.weigh(group)
    (total,) = step.join(list(step.gradients(group, shares=weights.shares)), weights)
    gradients = {name: None if value.grad is None else value.grad.tolist() for name, value in model.named_parameters()}
    step.update()
    return (
        float(total.loss),
        int(total.correct),
        total.images,
        gradients,
        {name: value.tolist() for name, value in model.state_dict().items()},
    )


def test_ranks_add_up_gradients_even_of_layers_that_only_one_of_them_uses(run_ranks):
    images = torch.tensor([[1.0, 2, 3], [2, 1, 0], [-1, -2, -3], [-1, 0, 0], [-5, 0, 1]])[:, :, None, None]
    labels = torch.tensor([0, 1, 1, 0, 1])
    first, second, third = run_ranks(3, lambda ranks: step_on(ranks, images, labels))
    assert first == second == third
    loss, _, count, gradients, state = first
    torch.manual_seed(0)
    model = Branches()
    usual, rare = model.usual(images[:2].flatten(1)), model.rare(images[2:].flatten(1))
    expected = nn.functional.cross_entropy(torch.cat([usual, rare]), labels, weight=torch.tensor([1.0, 3.0]))
    expected.backward()
    assert math.isclose(loss, expected.item(), rel_tol=1e-5)
    assert count == 5
    assert gradients["unused.weight"] is None
    for name in ("usual.weight", "rare.weight", "rare.bias"):
        wanted = model.get_parameter(name).grad
        assert wanted is not None
        assert torch.allclose(torch.tensor(gradients[name]), wanted, atol=1e-6)
    assert state["constant"][0] == float(torch.tensor(0.1)), "a constant stays as it is"
    assert state["constant"][1] == -math.inf
    assert math.isclose(state["seen"], float(images.sum()) / 3, rel_tol=1e-6), "a statistic is the mean of those of the ranks"
