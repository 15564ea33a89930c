from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine import muon as module
from cnnkit.engine.muon import STEP_SIZE_FACTOR, Muon, orthogonalise
from cnnkit.engine.optim import build_optimizer


@pytest.mark.parametrize("shape", [(8, 8), (16, 144), (144, 16), (1, 9)])
def test_the_singular_values_come_near_one_and_the_directions_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inside = left.T @ orthogonalise(matrix) @ right.T
    values = inside.diagonal()
    assert bool(((values > 0.6) & (values < 1.25)).all())
    torch.testing.assert_close(inside, torch.diag(values), atol=1e-3, rtol=0)


def test_small_matrices_use_one_thread_and_restore_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    weight = nn.Parameter(torch.ones(4, 9))
    weight.grad = torch.ones(4, 9)
    Muon([{"params": [weight], "muon": True}], lr=0.01).step()
    assert threads == [4, 1, 4]
    monkeypatch.setattr(module, "MAX_ONE_THREAD_NUMEL", 30)
    Muon([{"params": [weight], "muon": True}], lr=0.01).step()
    assert threads == [4, 1, 4]


def test_a_zero_gradient_gives_a_zero_update() -> None:
    assert not orthogonalise(torch.zeros(4, 6)).any()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 4))


def test_muon_updates_hidden_matrices_and_adamw_the_rest() -> None:
    model = network()
    optimizer = build_optimizer(model, OptimConfig(optimizer="muon", weight_decay=0.1))
    assert isinstance(optimizer, Muon)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    by_muon = {names[id(p)] for group in optimizer.param_groups if group["muon"] for p in group["params"]}
    others = {names[id(p)] for group in optimizer.param_groups if not group["muon"] for p in group["params"]}
    assert by_muon == {"0.weight", "3.weight"}
    assert by_muon | others == set(names.values())
    assert {group["weight_decay"] for group in optimizer.param_groups if group["muon"]} == {0.1}


def test_other_parameters_move_as_in_adamw() -> None:
    ours, theirs = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    muon = Muon([{"params": [ours], "weight_decay": 0.1, "muon": False}], lr=0.01)
    adamw = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    for step in range(5):
        for parameter in (ours, theirs):
            parameter.grad = torch.tensor([1.0, -2.0, 0.5]) * (step + 1)
        muon.step()
        adamw.step()
        torch.testing.assert_close(ours, theirs)


def test_a_step_turns_a_matrix_by_a_share_of_its_size_and_keeps_the_size() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(3 * torch.randn((32, 16, 3, 3), generator=generator))
    before = weight.detach().clone()
    optimizer = Muon([{"params": [weight], "muon": True, "weight_decay": 0.5}], lr=0.1 / STEP_SIZE_FACTOR)
    for _ in range(3):
        weight.grad = torch.randn(weight.shape, generator=generator)
        last = weight.detach().clone()
        optimizer.step()
        torch.testing.assert_close(weight.detach().norm(), before.norm())
        assert float((weight.detach() - last).norm() / before.norm()) == pytest.approx(0.1, rel=0.1)


def test_a_matrix_of_zeros_gets_the_size_of_an_orthogonal_matrix() -> None:
    weight = nn.Parameter(torch.zeros(4, 9))
    weight.grad = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    Muon([{"params": [weight], "muon": True}], lr=0.01).step()
    torch.testing.assert_close(weight.detach().norm(), torch.tensor(2.0))
    other = nn.Parameter(torch.zeros(4, 9))
    other.grad = torch.zeros(4, 9)
    Muon([{"params": [other], "muon": True}], lr=0.01).step()
    assert not other.detach().any()


def test_the_state_survives_saving() -> None:
    def step(model: nn.Sequential, optimizer: torch.optim.Optimizer, seed: int) -> None:
        optimizer.zero_grad()
        images = torch.randn((8, 3, 8, 8), generator=torch.Generator().manual_seed(seed))
        nn.functional.cross_entropy(model(images), torch.arange(8) % 4).backward()
        optimizer.step()

    config = OptimConfig(optimizer="muon", lr=0.01)
    one = network()
    first = build_optimizer(one, config)
    step(one, first, 1)
    other = network()
    other.load_state_dict(one.state_dict())
    second = build_optimizer(other, config)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for model, optimizer in ((one, first), (other, second)):
        step(model, optimizer, 2)
    for mine, yours in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, yours)
