from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.lr_range import DIVERGENCE_FACTOR, MIN_FALL, RangeTest, range_test, smooth, suggest
from cnnkit.engine.runtime import Runtime

PLAIN = Runtime(torch.device("cpu"))
RATES = np.geomspace(1e-6, 10, 100)
SPAN = 10


def network(*, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 4))


@dataclass
class LinearRule:
    """New images of noise in every epoch, labelled by a fixed linear rule, so that a network cannot learn them by heart."""

    steps: int = 10

    def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        random = torch.Generator().manual_seed(number)
        rule = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        assert not first, "a range test has no earlier part"
        for _ in range(self.steps):
            images = torch.randn(32, 1, 8, 8, generator=random)
            yield images, (images.flatten(1) @ rule).argmax(1)


def tried(model: nn.Module, batches: Any, **given: Any) -> RangeTest:
    """Return a range test with defaults; `given` are settings of the optimizer and other arguments of `range_test`."""
    others = {name: given.pop(name) for name in ("low", "high", "steps", "class_weights", "seed", "progress") if name in given}
    runtime = given.pop("runtime", PLAIN)
    settings: dict[str, Any] = {"weight_decay": 0.0, **given}
    return range_test(model, batches, OptimConfig(**settings), runtime, **others)


@dataclass
class Recorded:
    """Batches that record the epochs asked for, and the number of epochs that were closed."""

    fixed: Any
    epochs: list[int]
    closed: int = 0

    @property
    def steps(self) -> int:
        return self.fixed.steps

    def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        self.epochs.append(number)
        try:
            yield from self.fixed.epoch(number, first)
        finally:
            self.closed += 1


class Scripted(nn.Module):
    """A model whose loss over two classes follows `script`, call by call."""

    def __init__(self, script: list[float]) -> None:
        super().__init__()
        self.script, self.calls = script, 0
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        loss = self.script[min(self.calls, len(self.script) - 1)]
        self.calls += 1
        other = math.log(math.expm1(loss)) if math.isfinite(loss) else loss  # cross-entropy of (0, x) is ln(1 + e^x)
        return torch.tensor([0.0, other]).expand(len(images), 2) + self.weight


@dataclass
class Zeros:
    """Batches of four images of class 0."""

    steps: int = 4

    def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        del number
        yield from [(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64))] * (self.steps - first)


def played(script: list[float]) -> RangeTest:
    """Return the range test of a `Scripted` model, with rates too small to move its weight."""
    return tried(Scripted(script), Zeros(), high=1e-5, optimizer="sgd")


# --- the test ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_loss_falls_and_diverges_and_the_suggestion_lies_between(optimizer):
    test = tried(network(), LinearRule(), optimizer=optimizer)
    assert test.suggestion is not None
    assert test.diverged_at is not None
    assert 1e-4 < test.suggestion < test.rates[int(np.argmin(test.smoothed))] < test.diverged_at
    assert min(test.smoothed) < 0.8 * test.smoothed[0] < test.smoothed[-1]


def test_rates_rise_by_a_constant_factor_from_low_to_high(fixed):
    test = tried(network(), fixed, low=1e-4, high=1e-2, steps=21)
    np.testing.assert_allclose(test.rates, np.geomspace(1e-4, 1e-2, 21))
    assert len(test.losses) == len(test.smoothed) == 21
    assert test.diverged_at is None


def test_losses_equal_those_of_plain_steps_with_these_rates(fixed):
    model = network()
    twin = copy.deepcopy(model)
    test = tried(model, fixed, optimizer="sgd", low=1e-3, high=1e-1, steps=20)
    optimizer = torch.optim.SGD(twin.parameters(), lr=1.0, momentum=0.9, nesterov=True)
    expected: list[float] = []
    for epoch in range(5):
        for (images, labels), rate in zip(fixed.epoch(epoch), test.rates[4 * epoch :], strict=False):
            optimizer.param_groups[0]["lr"] = rate
            loss = nn.functional.cross_entropy(twin(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            expected.append(loss.item())
    np.testing.assert_allclose(test.losses, expected, rtol=1e-5)


def test_model_and_random_state_do_not_change(fixed):
    model = network(dropout=0.5).eval()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first = tried(model, fixed, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.rand(7)
    assert tried(model, fixed, seed=1) == first
    assert tried(model, fixed, seed=2) != first


def test_the_configured_rate_is_not_used(fixed):
    assert tried(network(), fixed, lr=1e-5) == tried(network(), fixed, lr=3.0)


@pytest.mark.parametrize(
    "given",
    [
        {"label_smoothing": 0.2},
        {"class_weights": torch.tensor([1.0, 2.0, 3.0, 4.0])},
        {"clip_grad": 0.01},
        {"layer_decay": 0.5},
        {"weight_decay": 1.0, "optimizer": "adamw"},
        {"runtime": Runtime(torch.device("cpu"), "bf16")},
    ],
    ids=lambda given: next(iter(given)),
)
def test_the_settings_of_a_step_are_used(fixed, given):
    assert tried(network(), fixed, **given).losses != tried(network(), fixed).losses


def test_frozen_statistics_of_batch_normalisation_are_used(fixed):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    images, labels = next(iter(fixed.epoch(1)))
    with torch.no_grad():
        expected = functional.cross_entropy(copy.deepcopy(model).eval()(images), labels)
    assert tried(model, fixed, freeze_norm=True).losses[0] == pytest.approx(float(expected), rel=1e-5)


def test_channels_last_does_not_change_the_losses(fixed):
    def convolutional() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))

    runtime = Runtime(torch.device("cpu"), channels_last=True)
    test = tried(runtime.prepare(convolutional()), fixed, runtime=runtime, high=1e-3)
    np.testing.assert_allclose(test.losses, tried(convolutional(), fixed, high=1e-3).losses, rtol=1e-4)


def test_epochs_follow_one_another_and_are_closed_when_the_test_ends(fixed):
    batches = Recorded(fixed, [])
    tried(network(), batches, steps=22, high=1e-3)
    assert batches.epochs == [1, 2, 3, 4, 5, 6]
    assert batches.closed == 6


def test_accumulated_batches_make_one_update(fixed):
    batches = Recorded(fixed, [])
    seen: list[tuple[int, int]] = []
    two = tried(network(), batches, steps=20, high=1e-3, accumulate=2, progress=lambda done, total: seen.append((done, total)))
    assert len(batches.epochs) == 10
    assert seen == [(step, 20) for step in range(1, 21)]
    doubled = tried(network(), fixed.batched(8, 8), steps=20, high=1e-3)
    np.testing.assert_allclose(two.losses, doubled.losses, rtol=1e-4)


# --- its end ----------------------------------------------------------------------------------------------------------


def test_a_large_rise_of_the_loss_ends_the_test():
    script = [1.0] * 30 + [0.4] * 30 + [3.0] * 40
    test = played(script)
    assert test.diverged_at == test.rates[-1]
    assert 60 < len(test.rates) < 70
    assert test.smoothed[-1] > max(1.0, DIVERGENCE_FACTOR * min(test.smoothed))


def test_a_rise_that_stays_below_the_start_does_not_end_the_test():
    assert played([1.0] * 30 + [0.01] * 30 + [0.5] * 40).diverged_at is None


@pytest.mark.parametrize("end", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_ends_the_test_and_is_left_out(end):
    test = played([1.0] * 30 + [0.5] * 10 + [end])
    assert test.diverged_at == pytest.approx(1e-6 * 10 ** (40 / 99))
    assert len(test.rates) == len(test.losses) == len(test.smoothed) == 40
    assert test.suggestion is not None


def test_without_a_finite_loss_the_test_is_empty():
    test = played([math.nan])
    assert (test.rates, test.losses, test.smoothed, test.suggestion) == ((), (), (), None)
    assert test.diverged_at == 1e-6


# --- the suggestion ---------------------------------------------------------------------------------------------------


def test_smoothing_is_a_mean_with_weights_that_fall_exponentially():
    losses = [3.0, 1.0, 2.0, 5.0]
    for last in range(1, 5):
        weights = 0.75 ** np.arange(last)[::-1]
        assert smooth(losses, 4)[last - 1] == pytest.approx(np.average(losses[:last], weights=weights))


def test_the_suggestion_is_the_rate_at_two_thirds_of_the_fall():
    losses = np.interp(np.arange(100), [0, 40, 70, 100], [2.0, 2.0, 0.5, 4.0])
    smoothed = np.array(smooth(list(losses), SPAN))
    bottom = int(smoothed.argmin())
    rate = suggest(list(RATES), list(losses), SPAN)
    assert rate is not None
    reached = np.interp(np.log(rate), np.log(RATES[:bottom]), smoothed[:bottom])
    assert reached == pytest.approx(2.0 - 2 / 3 * (2.0 - smoothed[bottom]), rel=0.02)
    assert rate == float(f"{rate:.1e}")


def test_a_shift_of_the_curve_shifts_the_suggestion_equally():
    first, second = (
        suggest(list(RATES), list(np.interp(np.arange(100), [40 + shift, 70 + shift, 90 + shift], [2.0, 0.5, 4.0])), SPAN)
        for shift in (0, 10)
    )
    assert first is not None
    assert second is not None
    assert second / first == pytest.approx(RATES[10] / RATES[0], rel=0.1)


def test_noise_moves_the_suggestion_by_less_than_a_factor_of_two():
    clean = np.interp(np.arange(100), [0, 40, 70, 100], [2.0, 2.0, 0.5, 4.0])
    random = np.random.default_rng(0)
    rates = [suggest(list(RATES), list(clean + random.normal(0, 0.1, 100)), SPAN) for _ in range(50)]
    assert max(rate or 9 for rate in rates) / min(rate or 1e-9 for rate in rates) < 2


@pytest.mark.parametrize(
    "losses",
    [[], [1.0] * 5, [1.0] * 100, list(np.linspace(1, 2, 100))],
    ids=["nothing", "too short", "constant", "rising"],
)
def test_a_loss_that_never_fell_suggests_nothing(losses):
    assert suggest(list(RATES[: len(losses)]), losses, SPAN) is None


def test_noise_alone_rarely_suggests_anything_and_a_clear_fall_always_does():
    random = np.random.default_rng(0)
    noise = random.normal(2.3, 0.1, (400, 100))
    assert sum(suggest(list(RATES), list(losses), SPAN) is not None for losses in noise) < 0.1 * 400
    fall = np.interp(np.arange(100), [30, 80], [0, 0.1 * 2 * MIN_FALL / math.sqrt(2 * SPAN - 1)])
    assert sum(suggest(list(RATES), list(losses - fall), SPAN) is not None for losses in noise) > 0.95 * 400
