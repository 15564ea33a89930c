"""The learning-rate range test: the loss of a copy of the network, trained with a rate that grows at every step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
import torch
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.batch_source import BatchSource
from cnnkit.engine.custom import BUILT_IN, Custom
from cnnkit.engine.optim import build_optimizer, set_learning_rate
from cnnkit.engine.random_state import own_random_state
from cnnkit.engine.ranks import ONE, Ranks, step_seed
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.step import Step, keep_norm_statistics

MIN_RATE, MAX_RATE = 1e-6, 10.0  # no optimizer here learns below the first or survives above the second
DEFAULT_STEPS = 100  # fastai's default
MIN_STEPS = 20  # fewer leave nothing to average
SPAN_SHARE = 0.1  # of the steps: the span of the running average, and of the start before the network has learned anything
DIVERGENCE_FACTOR = 1.5  # on the smallest smoothed loss: at that height, and above the start, the training has diverged
SUGGESTED_FALL_SHARE = 2 / 3  # of the fall of the loss: see docs/benchmarks/LOG.md, "Rule of the learning-rate range test"
MIN_FALL = 5.0  # standard deviations of the smoothed loss; of 4,000 simulated tests of pure noise, 5 % fell that far


@dataclass(frozen=True)
class RangeTest:
    """The loss (nats per image) at every learning rate of a range test, up to the rate at which the training diverged.

    `losses[i]` is the loss before the step with rate `rates[i]`; `smoothed` is the running average of `losses`.
    `suggestion` is None if the loss never clearly fell. `diverged_at` is None if the test reached its highest rate.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    diverged_at: float | None

    @property
    def no_suggestion_reason(self) -> str:
        """The reason why there is no suggestion, as a clause."""
        if not self.rates:
            return "the first loss was not finite"
        tried = f"with rates from {self.rates[0]:g} to {self.rates[-1]:.2g}"
        return f"{tried} the smoothed loss never fell clearly below its first value, {self.smoothed[0]:.3g}"


def range_test(  # noqa: PLR0913 (values flow, not namespaces)
    model: nn.Module,
    batches: BatchSource,
    config: OptimConfig,
    runtime: Runtime,
    *,
    low: float = MIN_RATE,
    high: float = MAX_RATE,
    steps: int = DEFAULT_STEPS,
    class_weights: Tensor | None = None,
    custom: Custom = BUILT_IN,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    ranks: Ranks = ONE,
) -> RangeTest:
    """Train a copy of `model` for up to `steps` updates (at least `MIN_STEPS`), at rates that grow from `low` to `high`.

    Each rate is a constant factor above the previous one. The copy trains as in `fit`, on the batches of epochs 1, 2 and so
    on. It uses `runtime`, and the optimizer, label smoothing, accumulation and gradient limit of `config`. It does not use
    ``config.lr``, the schedule and frozen epochs. The test ends early if the training diverges (`DIVERGENCE_FACTOR`) or the loss
    is not finite. `model` and the random state do not change. `progress(done, total)` is called after every update. Several `ranks` test
    together, each with its part of the batches.

    The test is Smith's (arXiv:1506.01186, section 3.3), with fastai's exponential growth of the rate.
    """
    rates = [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]
    span = max(2, round(SPAN_SHARE * steps))
    losses: list[float] = []
    diverged_at = None
    with (
        own_random_state(runtime.device, seed),
        closing(_losses(copy.deepcopy(model), batches, config, runtime, rates, class_weights, custom, ranks)) as walk,
    ):
        if ranks.several:
            torch.manual_seed(step_seed(seed, 0, 0, ranks.rank))
        for rate, loss in zip(rates, walk, strict=True):
            losses.append(loss)
            if _diverged(losses, span):
                diverged_at = rate
                break
            if progress is not None:
                progress(len(losses), steps)
    if not math.isfinite(losses[-1]):
        losses.pop()
    rates = rates[: len(losses)]
    return RangeTest(tuple(rates), tuple(losses), smooth(losses, span), suggest(rates, losses, span), diverged_at)


def suggest(rates: Sequence[float], losses: Sequence[float], span: int) -> float | None:
    """Return the peak learning rate for a schedule that falls to zero, to two digits; None if the loss never clearly fell.

    The smoothed loss falls from the mean of its first `span` steps to its minimum. The suggestion is the rate at which two
    thirds of that fall are done: learning is fast there, and divergence is still far away. Of four rules, this one lost
    least against sweeps of rates: see docs/benchmarks/LOG.md, "Rule of the learning-rate range test".
    """
    smoothed = smooth(losses, span)
    if len(smoothed) <= span:
        return None
    bottom = span + int(np.argmin(smoothed[span:]))
    start = float(np.mean(smoothed[:span]))
    fall = start - smoothed[bottom]
    if fall <= MIN_FALL * _noise(losses, span):
        return None
    level = start - SUGGESTED_FALL_SHARE * fall
    above = max(step for step in range(bottom) if smoothed[step] > level)
    between = (smoothed[above] - level) / (smoothed[above] - smoothed[above + 1])
    return float(f"{rates[above] * (rates[above + 1] / rates[above]) ** between:.1e}")


def smooth(losses: Sequence[float], span: int) -> tuple[float, ...]:
    """Return the exponential running averages of `losses` with decay 1 - 1/`span`, corrected for the bias of the first steps."""
    share, total, weight = 1 - 1 / span, 0.0, 0.0
    averages: list[float] = []
    for loss in losses:
        total, weight = share * total + loss, share * weight + 1
        averages.append(total / weight)
    return tuple(averages)


def _diverged(losses: Sequence[float], span: int) -> bool:
    """Return whether the last loss is not finite, or its average is above the start and `DIVERGENCE_FACTOR` times the minimum."""
    if not math.isfinite(losses[-1]):
        return True
    smoothed = smooth(losses, span)
    return len(losses) > span and smoothed[-1] > max(float(np.mean(smoothed[:span])), DIVERGENCE_FACTOR * min(smoothed[span:]))


def _noise(losses: Sequence[float], span: int) -> float:
    """Return the standard deviation of a smoothed loss, from the differences in the first third, where little is learned.

    An average with weights (1 - s) s^k has (1 - s) / (1 + s) of the variance of its terms.
    """
    early = losses[: max(2 * span, len(losses) // 3)]
    return float(np.std(np.diff(early))) / math.sqrt(2) * math.sqrt(1 / (2 * span - 1))


def _losses(
    model: nn.Module,
    batches: BatchSource,
    config: OptimConfig,
    runtime: Runtime,
    rates: Sequence[float],
    class_weights: Tensor | None,
    custom: Custom,
    ranks: Ranks,
) -> Generator[float]:
    """Make one update with each of `rates`; yield the loss before each update."""
    model.train()
    if config.freeze_norm:
        keep_norm_statistics(model)
    optimizer = build_optimizer(model, config.model_copy(update={"lr": rates[0]}), custom.optimizer)
    step = Step(model, optimizer, config, runtime, class_weights, custom.loss, ranks=ranks)
    with closing(_endless(batches)) as stream:
        for rate in rates:
            set_learning_rate(optimizer, rate)
            group = list(islice(stream, config.accumulate))
            weights = step.weigh(group)
            yield sum(float(total.loss) for total in step.join(list(step.gradients(group, shares=weights.shares)), weights)) / len(group)
            step.update()


def _endless(batches: BatchSource) -> Generator[tuple[Tensor, Tensor]]:
    """Yield the batches of epoch 1, of epoch 2, and so on."""
    for number in count(1):
        yield from batches.epoch(number)
