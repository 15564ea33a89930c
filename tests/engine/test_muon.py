from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine import muon as module
from cnnkit.engine.muon import STEP_SIZE_FACTOR, Muon, orthogonalise, orthogonalise_all
from cnnkit.engine.optim import build_optimizer


@pytest.mark.parametrize("shape", [(8, 8), (16, 144), (144, 16), (1, 9)])
def test_the_singular_values_come_near_one_and_the_directions_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inside = left.T @ orthogonalise(matrix) @ right.T
    values = inside.diagonal()
    assert bool(((values > 0.6) & (values < 1.25)).all())
    torch.testing.assert_close(inside, torch.diag(values), atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 16, 144), (2, 144, 16)])
def test_matrices_together_come_near_those_alone(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    alone = torch.stack([orthogonalise(matrix) for matrix in matrices])
    torch.testing.assert_close(orthogonalise_all(matrices, torch.float32), alone, atol=1e-4, rtol=0)
    rounded = orthogonalise_all(matrices, torch.bfloat16)
    assert rounded.dtype == torch.float32
    assert float((rounded - alone).norm() / alone.norm()) < 0.06


def test_products_in_bf16_keep_small_singular_values() -> None:
    """Products of Gram matrices lose them: they turn a step by more than a right angle here."""
    left, _, right = torch.linalg.svd(torch.randn((64, 216), generator=torch.Generator().manual_seed(0)), full_matrices=False)
    matrix = left @ torch.diag(torch.logspace(0, -2.5, 64)) @ right

    def cosine(step: torch.Tensor) -> float:
        return float((step * (left @ right)).sum() / step.norm() / 8)  # 8 is the size of an orthogonal matrix of 64 rows

    assert cosine(orthogonalise(matrix)) > 0.97
    assert cosine(orthogonalise_all(matrix[None], torch.bfloat16)[0]) > 0.97


def test_a_gpu_updates_equal_shapes_together_as_a_cpu_does_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(8, 4, 3, 3), (16, 8), (8, 36), (8, 4, 3, 3), (4, 4, 1, 1)]
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(shape, generator=generator) for shape in shapes]
    starts[3] = torch.zeros(shapes[3])  # a matrix that starts at zero
    alone, together = ([nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    together[0].data = together[0].data.to(memory_format=torch.channels_last)
    by_shape: list[int] = []

    def step_together(self: Muon, parameters: list[torch.Tensor], lr: float, original: Any = Muon._muon_together) -> None:
        by_shape.append(len(parameters))
        original(self, parameters, lr)

    monkeypatch.setattr(Muon, "_muon_together", step_together)
    optimizers = [Muon([{"params": parameters, "muon": True}], lr=0.01) for parameters in (alone, together)]
    for _ in range(3):
        gradients = [torch.randn(shape, generator=generator) for shape in shapes]
        for parameters in (alone, together):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.clone()
        optimizers[0].step()
        with torch.no_grad():
            for alike in module._by_shape(list(together)):
                optimizers[1]._muon_together(alike, 0.01)
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    assert by_shape == [3, 1, 1] * 3  # filters (8, 4, 3, 3) and the matrix (8, 36) have one shape
    assert together[0].is_contiguous(memory_format=torch.channels_last)


def test_a_step_does_not_wait_for_a_gpu() -> None:
    """Tensors on `meta` have no values, so a read of them fails, as it would wait for a GPU."""
    matrix, vector = (nn.Parameter(torch.ones(shape, device="meta")) for shape in ((4, 3, 2, 2), (4,)))
    optimizer = Muon([{"params": [matrix], "muon": True}, {"params": [vector], "muon": False}], lr=0.01)
    for _ in range(2):
        matrix.grad, vector.grad = torch.ones_like(matrix), torch.ones_like(vector)
        optimizer.step()
    assert set(optimizer.state[matrix]) == {"momentum", "size"}
    assert optimizer.state[vector]["step"] == 2


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
