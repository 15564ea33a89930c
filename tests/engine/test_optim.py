from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine import optim as module
from cnnkit.engine.optim import build_optimizer, learning_rate, set_learning_rate
from cnnkit.engine.progress import EpochProgress


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def test_vectors_get_no_weight_decay() -> None:
    model = network()
    optimizer = build_optimizer(model, OptimConfig(weight_decay=0.1))
    decay = {id(parameter): group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    named = {name: decay[id(parameter)] for name, parameter in model.named_parameters()}
    assert named == {"0.weight": 0.1, "0.bias": 0, "1.weight": 0, "1.bias": 0, "3.weight": 0.1, "3.bias": 0}


def test_fixed_parameters_of_an_architecture_are_not_optimized() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    for config in (OptimConfig(), OptimConfig(layer_decay=0.5)):
        held = {id(parameter) for group in build_optimizer(model, config).param_groups for parameter in group["params"]}
        assert held == {id(parameter) for name, parameter in model.named_parameters() if name != "0.weight"}


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ("adam", torch.optim.Adam, {"betas": (0.9, 0.999)}),
        ("adamw", torch.optim.AdamW, {"betas": (0.9, 0.999)}),
    ],
)
def test_the_name_chooses_the_optimizer(name: Any, kind: type, options: dict[str, object]) -> None:
    optimizer = build_optimizer(network(), OptimConfig(optimizer=name, lr=0.5))
    assert type(optimizer).__bases__ == (kind,)  # see `eager`
    for group in optimizer.param_groups:
        assert group["lr"] == 0.5
        assert {key: group[key] for key in options} == options
        assert group["decoupled_weight_decay"] is (name == "adamw") if "decoupled_weight_decay" in group else name == "sgd"


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_cuda_gpu_gets_fused_kernels_with_the_same_update(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = OptimConfig(optimizer=name, lr=0.01, weight_decay=0.1)
    models = [network(), network()]
    models[1].load_state_dict(models[0].state_dict())
    plain = build_optimizer(models[0], config)
    monkeypatch.setattr(module, "_suits_fused_kernels", lambda _: True)
    fused = build_optimizer(models[1], config)
    assert {group["fused"] for group in plain.param_groups} == {None}
    assert {group["fused"] for group in fused.param_groups} == {True}
    for seed in range(3):
        for model, optimizer in zip(models, (plain, fused), strict=True):
            torch.manual_seed(seed)
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other)


def test_fused_kernels_are_for_floating_point_numbers_on_a_cuda_gpu() -> None:
    for model in (network(), network().to("meta"), nn.Flatten()):
        assert not module._suits_fused_kernels(model)


def test_weight_decay_shrinks_matrices_and_leaves_vectors() -> None:
    model = network()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model, OptimConfig(optimizer="sgd", lr=0.1, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        # Nesterov's first step: 1 + 0.9 times the gradient, which is the decay
        factor = 1 - 0.1 * 0.5 * 1.9 if parameter.ndim > 1 else 1
        torch.testing.assert_close(parameter, before[name] * factor)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("cosine", [1.0, (1 + math.cos(math.pi / 4)) / 2, 0.5, (1 - math.cos(math.pi / 4)) / 2]),
        ("linear", [1.0, 0.75, 0.5, 0.25]),
        ("constant", [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_the_rate_follows_the_schedule_after_a_linear_warmup(schedule: Any, rates: list[float]) -> None:
    config = OptimConfig(lr=2.0, schedule=schedule, epochs=2, warmup_epochs=1)
    progress = EpochProgress(config, 4)
    assert [learning_rate(step, progress, config) for step in range(4)] == [0.5, 1.0, 1.5, 2.0]
    assert [learning_rate(step, progress, config) for step in range(4, 8)] == pytest.approx([2 * rate for rate in rates])


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_rate_ends_near_zero_and_never_below(schedule: Any) -> None:
    config = OptimConfig(lr=1.0, schedule=schedule, epochs=10, warmup_epochs=1)
    rates = [learning_rate(step, EpochProgress(config, 100), config) for step in range(1000)]
    assert 0 < rates[-1] < 0.002
    assert max(rates) == rates[99] == rates[100] == 1
    assert all(later <= earlier for earlier, later in pairwise(rates[100:]))


def test_without_warmup_the_first_rate_is_the_peak() -> None:
    config = OptimConfig(lr=0.3, epochs=1, warmup_epochs=0)
    assert learning_rate(0, EpochProgress(config, 10), config) == 0.3


def test_a_training_that_is_all_warmup_ends_at_the_peak() -> None:
    config = OptimConfig(lr=1.0, epochs=1, warmup_epochs=1)
    assert [learning_rate(step, EpochProgress(config, 4), config) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    longer = OptimConfig(lr=1.0, epochs=1, warmup_epochs=2)
    assert learning_rate(3, EpochProgress(longer, 4), longer) == 0.5


def test_setting_the_rate_respects_the_scale_of_a_group() -> None:
    one, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [one]}, {"params": [other], "lr_scale": 0.25}], lr=9)
    set_learning_rate(optimizer, 0.4)
    assert [group["lr"] for group in optimizer.param_groups] == [0.4, 0.1]


def scales(model: nn.Module, config: OptimConfig) -> dict[str, float]:
    groups = build_optimizer(model, config).param_groups
    scale = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert all(decay[id(parameter)] == (config.weight_decay if parameter.ndim > 1 else 0) for parameter in model.parameters())
    return {name: scale[id(parameter)] for name, parameter in model.named_parameters()}


def test_layer_decay_scales_from_the_last_layer_to_the_first() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    assert scales(model, OptimConfig(layer_decay=0.5, weight_decay=0.1)) == {
        "0.weight": 0.25, "0.bias": 0.25, "1.weight": 0.25, "1.bias": 0.25,
        "3.weight": 0.5, "3.bias": 0.5,
        "5.weight": 1.0, "5.bias": 1.0,
    }  # fmt: skip


def test_a_normalisation_before_the_first_layer_belongs_to_it() -> None:
    assert scales(nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)), OptimConfig(layer_decay=0.5)) == {
        "0.weight": 0.5, "0.bias": 0.5, "1.weight": 0.5, "1.bias": 0.5,
        "2.weight": 1.0, "2.bias": 1.0,
    }  # fmt: skip


def test_a_network_may_define_its_own_layers() -> None:
    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body, self.head = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2)

        def group_matcher(self, *, coarse: bool) -> dict[str, Any]:
            assert not coarse
            return {"stem": r"^stem", "blocks": r"^body\.(\d+)"}

    found = scales(Grouped(), OptimConfig(layer_decay=0.5))
    assert [found[f"{name}.weight"] for name in ("stem", "body.0", "body.1", "head")] == [0.125, 0.25, 0.5, 1.0]


def test_a_layer_decay_of_1_is_off() -> None:
    assert all("lr_scale" not in group for group in build_optimizer(network(), OptimConfig()).param_groups)
