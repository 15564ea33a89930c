from __future__ import annotations

import math
import time
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig, StopConfig
from cnnkit.engine.batch_source import BatchSource
from cnnkit.engine.ema import MovingAverage, decay_at
from cnnkit.engine.fit import EpochResult, TrainingState, fit, initial_state
from cnnkit.engine.progress import Clock
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.validation import validate

K = 4
HEAD = frozenset({"5.weight", "5.bias"})
PLAIN = Runtime(torch.device("cpu"))
STEADY: dict[str, Any] = {"optimizer": "sgd", "lr": 0.05, "schedule": "constant", "warmup_epochs": 0, "epochs": 3}


def network(seed: int = 0) -> nn.Sequential:
    """Return a convolution, a normalisation and a head named ``5``."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(512, K))


def trained(
    model: nn.Module, batches: BatchSource, runtime: Runtime = PLAIN, clock: Clock = time.perf_counter, **given: Any
) -> tuple[list[EpochResult], TrainingState]:
    config = OptimConfig(**{**STEADY, **given})
    state = initial_state(model, config, StopConfig(patience=0))
    return list(fit(model, batches, batches, config, runtime, state, num_classes=K, head=HEAD, clock=clock)), state


def values(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def averaged(state: TrainingState) -> nn.Module:
    assert state.average is not None
    return state.average.module


class Numbers(nn.Module):
    """One parameter, one statistic, one counter and one infinite constant; `write` sets the first three."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([3.0, -1.0]))
        self.register_buffer("mean", torch.tensor([0.5]))
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("mask", torch.tensor([0.0, -math.inf]))

    def write(self, weight: list[float], mean: float, seen: int) -> None:
        self.weight.data.copy_(torch.tensor(weight))
        self.mean = torch.tensor([mean])  # a new tensor, as in some modules
        self.seen = torch.tensor(seen)


# --- the average ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.25, 0.9, 0.999])
def test_the_average_follows_the_formula(decay: float) -> None:
    random = np.random.default_rng(0)
    model = Numbers()
    average = MovingAverage(model, decay)
    weight, mean = np.array([3.0, -1.0]), 0.5
    for step in range(1, 120):
        new = random.normal(size=3)
        model.write(new[:2].tolist(), float(new[2]), step)
        average.update(model, step)
        kept = min(decay, (1 + step) / (10 + step))
        weight, mean = kept * weight + (1 - kept) * new[:2], kept * mean + (1 - kept) * new[2]
    np.testing.assert_allclose(average.module.get_parameter("weight").numpy(), weight, rtol=1e-4, atol=1e-6)
    assert float(average.module.get_buffer("mean")) == pytest.approx(mean, rel=1e-4, abs=1e-6)


def test_counters_and_infinite_constants_are_copied() -> None:
    model = Numbers()
    average = MovingAverage(model, 0.999)
    for step in range(1, 8):
        model.write([0.0, 0.0], 0.0, step)
        average.update(model, step)
    assert int(average.module.get_buffer("seen")) == 7
    assert average.module.get_buffer("mask").tolist() == [0.0, -math.inf]


def test_constant_weights_stay_bit_equal() -> None:
    model = network()
    average = MovingAverage(model, 0.9)
    for step in range(1, 200):
        average.update(model, step)
    assert all(torch.equal(value, values(model)[name]) for name, value in average.module.state_dict().items())


def test_an_update_only_reads_the_model_and_shares_no_memory() -> None:
    model = network().train()
    average = MovingAverage(model, 0.9)
    with torch.no_grad():
        model.get_parameter("0.weight").add_(1.0)
    before = values(model)
    average.update(model, 1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not average.module.training
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    assert not {tensor.data_ptr() for tensor in model.parameters()} & {tensor.data_ptr() for tensor in average.module.parameters()}


def test_the_first_updates_forget_the_random_start() -> None:
    assert decay_at(1, 0.999) == pytest.approx(2 / 11)
    assert math.prod(decay_at(step, 0.999) for step in range(1, 20)) < 1e-6  # the remaining share of the start
    assert decay_at(8_989, 0.999) < decay_at(8_990, 0.999) == decay_at(10**6, 0.999) == 0.999
    assert decay_at(1, 0.1) == 0.1


# --- in the training --------------------------------------------------------------------------------------------------


def test_the_loop_validates_the_average(fixed) -> None:
    model = network()
    results, state = trained(model, fixed, ema=0.9)
    assert results[-1].val_loss == validate(averaged(state), fixed, PLAIN, K).loss
    assert results[-1].val_loss != validate(model, fixed, PLAIN, K).loss
    assert state.network_to_keep(model) is averaged(state)


def test_the_loop_averages_the_weights_after_every_update(fixed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The expected average is computed here; accumulated batches make one update."""
    model, seen = network(), [values(network())]
    step = torch.optim.SGD.step

    def watch(self: torch.optim.SGD, *given: Any, **named: Any) -> Any:
        step(self, *given, **named)
        seen.append(values(model))

    monkeypatch.setattr(torch.optim.SGD, "step", watch)
    results, state = trained(model, fixed, ema=0.6, accumulate=2)
    assert results[-1].step == len(seen) - 1 == 6
    for name, value in averaged(state).state_dict().items():
        expected = seen[0][name].double()
        for number, weights in enumerate(seen[1:], 1):
            kept = min(0.6, (1 + number) / (10 + number))
            expected = kept * expected + (1 - kept) * weights[name]
        torch.testing.assert_close(value.double(), expected if value.is_floating_point() else seen[-1][name].double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("given", [{}, {"accumulate": 2}, {"freeze_epochs": 1}, {"clip_grad": 0.1}], ids=str)
def test_the_raw_weights_train_as_without_an_average(fixed, given: dict[str, Any]) -> None:
    models = network(), network()
    (plain, off), (with_average, _) = trained(models[0], fixed, **given), trained(models[1], fixed, ema=0.9, **given)
    assert [result.train_loss for result in plain] == [result.train_loss for result in with_average]
    assert all(torch.equal(value, models[1].state_dict()[name]) for name, value in models[0].state_dict().items())
    assert off.average is None
    assert off.network_to_keep(models[0]) is models[0]


def test_frozen_layers_do_not_change(fixed) -> None:
    model = network()
    before = values(model)
    _, state = trained(model, fixed, ema=0.9, epochs=2, freeze_epochs=2)
    changed = {name for name, value in averaged(state).state_dict().items() if not torch.equal(value, before[name])}
    assert changed == HEAD


def test_the_average_is_fp32_and_channels_last_in_a_bf16_training(fixed) -> None:
    runtime = Runtime(torch.device("cpu"), "bf16", channels_last=True)
    model = network()
    model[0] = nn.Conv2d(1, 8, 3, padding=1)
    model.insert(1, nn.Conv2d(8, 8, 3, padding=1))
    _, state = trained(runtime.prepare(model), fixed, runtime, ema=0.9)
    weight = averaged(state).get_parameter("1.weight")
    assert weight.dtype == torch.float32
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


def test_a_budget_ends_with_the_average_validated(fixed) -> None:
    ticks = count()
    (*_, last), state = trained(network(), fixed, clock=lambda: float(next(ticks)), ema=0.9, budget=60.0)
    assert last.epoch > 1
    assert last.val_loss == validate(averaged(state), fixed, PLAIN, K).loss
