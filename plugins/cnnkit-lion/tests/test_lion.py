"""Tests of the plugin: it keeps the contract, an installed cnnkit finds it, and its steps are those of the paper."""

from __future__ import annotations

import pytest
import torch
from cnnkit_lion import build, lion
from torch import nn

from cnnkit.registry import OPTIMIZER_KIND, load_extension
from cnnkit.testing import check_optimizer


def test_lion_keeps_the_contract() -> None:
    check_optimizer(lion, "lion")


def test_cnnkit_finds_lion_by_name() -> None:
    found = load_extension(OPTIMIZER_KIND, "lion:beta2=0.98,cautious=true")
    assert found.value.summary == lion.summary
    assert (found.entry.package, found.options) == ("cnnkit-lion", {"beta1": 0.9, "beta2": 0.98, "cautious": True})


def test_steps_are_those_of_the_paper() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimizer = build([{"params": [weight], "weight_decay": 0.5}], 0.1)
    expected, momentum = weight.detach().clone(), torch.zeros(3)
    for gradient in (torch.tensor([1.0, -1.0, 2.0]), torch.tensor([-20.0, 0.5, 1.0])):
        weight.grad = gradient.clone()
        optimizer.step()
        expected = expected - 0.1 * ((0.9 * momentum + 0.1 * gradient).sign() + 0.5 * expected)
        momentum = 0.99 * momentum + 0.01 * gradient
        torch.testing.assert_close(weight.detach(), expected)


def test_wrong_betas_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Invalid beta parameter at index 0: 1\.5"):
        build([{"params": [nn.Parameter(torch.ones(1))], "weight_decay": 0.0}], 0.1, beta1=1.5)
