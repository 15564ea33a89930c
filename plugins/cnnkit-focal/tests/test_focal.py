"""Tests of the plugin: it keeps the contract, an installed cnnkit finds it, and it equals cross-entropy at gamma 0."""

from __future__ import annotations

import pytest
import torch
from cnnkit_focal import build, focal
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from cnnkit.engine.criterion import make_criterion
from cnnkit.registry import LOSS_KIND, load_extension
from cnnkit.testing import check_loss

CPU = torch.device("cpu")
K = 5


def draw(n: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits (n, K), labels (n,) and mixed targets (n, K)."""
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(n, K, generator=random)
    return logits, torch.randint(K, (n,), generator=random), torch.rand(n, K, generator=random).softmax(1)


def test_focal_keeps_the_contract() -> None:
    check_loss(focal, "focal")


def test_cnnkit_finds_focal_by_name() -> None:
    found = load_extension(LOSS_KIND, "focal:gamma=1.5")
    assert found.value.summary == focal.summary
    assert (found.entry.package, found.options) == ("cnnkit-focal", {"gamma": 1.5})


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 2.0, 0.1, 3.0])])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
def test_gamma_0_is_cross_entropy(weights: Tensor | None, smoothing: float, *, mixed: bool) -> None:
    logits, labels, shares = draw()
    targets = shares if mixed else labels
    found = make_criterion(build(K, gamma=0.0), weights, smoothing, CPU)(logits, targets)
    expected = nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)(logits, targets)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_two_classes_have_the_loss_of_torchvision(gamma: float) -> None:
    score, label = torch.linspace(-4, 4, 9), torch.arange(9) % 2
    logits = torch.stack([torch.zeros(9), score], 1)
    expected = sigmoid_focal_loss(score, label.float(), alpha=-1, gamma=gamma)
    found = build(2, gamma=gamma)(logits, functional.one_hot(label, 2).float()).sum(1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("gamma", [0.25, 0.5, 1.0, 2.0])
def test_a_certain_prediction_has_a_finite_gradient(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    build(2, gamma=gamma)(logits, torch.eye(2)).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_a_negative_gamma_is_refused() -> None:
    with pytest.raises(ValueError, match="gamma=-1 must be at least 0; 0 is cross-entropy, 2 is usual"):
        build(2, gamma=-1.0)
