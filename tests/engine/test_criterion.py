"""The mean of a custom loss has the weights and the divisor of torch's cross-entropy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.criterion import make_criterion
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.step import Step

CPU = torch.device("cpu")
WEIGHTS = torch.tensor([0.5, 2.0, 1.0])


def terms(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the terms of cross-entropy (n, K)."""
    return -targets * logits.log_softmax(1)


def whole(logits: Tensor, targets: Tensor) -> Tensor:
    """Return cross-entropy (n,)."""
    return terms(logits, targets).sum(1)


def draw(*, mixed: bool) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(10, 3, generator=random), torch.randint(3, (10,), generator=random)
    return logits, torch.rand(10, 3, generator=random).softmax(1) if mixed else labels


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_terms_of_cross_entropy_give_cross_entropy(weights: Tensor | None, smoothing: float, mixed: bool) -> None:
    logits, labels = draw(mixed=mixed)
    expected = make_criterion(None, weights, smoothing, CPU)(logits, labels)
    torch.testing.assert_close(make_criterion(terms, weights, smoothing, CPU)(logits, labels), expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_loss_per_image_is_weighted_by_the_class_of_the_image(weights: Tensor | None) -> None:
    logits, labels = draw(mixed=False)
    expected = nn.CrossEntropyLoss(weight=weights)(logits, labels)
    torch.testing.assert_close(make_criterion(whole, weights, 0.0, CPU)(logits, labels), expected)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("replicas", [1, 2])
def test_parts_and_replicas_of_a_batch_have_its_gradient(parts: int, replicas: int) -> None:
    gradients: list[Tensor] = []
    images, labels = torch.randn(11, 4, generator=torch.Generator().manual_seed(0)), torch.arange(11) % 3
    for loss, pieces, runtime in ((None, 1, Runtime(CPU)), (terms, parts, Runtime(CPU, replicas=replicas))):
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        step = Step(model, torch.optim.SGD(model.parameters()), OptimConfig(), runtime, WEIGHTS, loss)
        list(step.gradients([(images, labels)], pieces))
        assert model.weight.grad is not None
        gradients.append(model.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])
