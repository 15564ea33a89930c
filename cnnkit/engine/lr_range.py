"""The learning-rate range test: train a copy with a rate that grows at every step, and see what the loss does."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.batch_source import BatchSource
from cnnkit.engine.optim import build_optimizer, set_learning_rate
from cnnkit.engine.random_state import own_random_state
from cnnkit.engine.runtime import Runtime
from cnnkit.engine.step import Step

LOW, HIGH = 1e-6, 10.0  # rates: below nothing learns, above nothing survives, with any optimizer here
STEPS = 100  # as fastai's
LEAST_STEPS = 20  # fewer leave nothing to average
SPAN = 0.1  # of the steps: what a smoothed loss averages, and what shows where the loss stood before anything was learned
REBOUND = 1.5  # times the least smoothed loss: that high, and above where it began, what was learned is lost
FALL = 2 / 3  # of the fall done at the suggested rate: see docs/benchmarks/LOG.md, "Rule of the learning-rate range test"
CLEAR = 5.0  # times the noise of the smoothed loss: of 4,000 simulated tests of pure noise 5 % fell that far


@dataclass(frozen=True)
class RangeTest:
    """What the loss (nats per image) did while the learning rate rose, step by step, up to where it diverged.

    `losses` are those of the batches, each before the step with its rate; `smoothed` their running average. `suggestion` is None
    if the loss never clearly fell, `diverged_at` None if the test reached its highest rate.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    diverged_at: float | None

    @property
    def why_none(self) -> str:
        """Why there is no suggestion, in words."""
        if not self.rates:
            return "the very first loss was not finite"
        tried = f"with rates from {self.rates[0]:g} to {self.rates[-1]:.2g}"
        return f"{tried} the smoothed loss never fell clearly below {self.smoothed[0]:.3g}, where it began"


def range_test(  # noqa: PLR0913 (values flow, not namespaces)
    model: nn.Module,
    batches: BatchSource,
    config: OptimConfig,
    runtime: Runtime,
    *,
    low: float = LOW,
    high: float = HIGH,
    steps: int = STEPS,
    class_weights: Tensor | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> RangeTest:
    """Train a copy of `model` for up to `steps` updates at rates from `low` to `high`, each a constant factor above the last.

    `steps` is at least `LEAST_STEPS`. The copy learns as `fit` would let `model`: with the optimizer, smoothing, accumulation and
    gradient limit of `config`, the arithmetic of `runtime` and the batches of epoch 1, 2 and so on; ``config.lr``, schedule
    and frozen epochs play no part. It ends early when what was learned is lost (`REBOUND`) or the loss is no longer finite.
    `model` and the random state are left as they were. `progress(done, total)` is told of every update.

    The test is Smith's (arXiv:1506.01186, section 3.3), with the exponential rise that fastai gave it.
    """
    rates = [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]
    span = max(2, round(SPAN * steps))
    losses: list[float] = []
    diverged_at = None
    with (
        own_random_state(runtime.device, seed),
        closing(_losses(copy.deepcopy(model), batches, config, runtime, rates, class_weights)) as walk,
    ):
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

    It is the rate at which the smoothed loss has done two thirds of its fall from the mean of the first `span` steps to its
    minimum: learning is fast there and what destroys it still far off. Of four rules this one lost least against sweeps of rates:
    see docs/benchmarks/LOG.md, "Rule of the learning-rate range test".
    """
    smoothed = smooth(losses, span)
    if len(smoothed) <= span:
        return None
    bottom = span + int(np.argmin(smoothed[span:]))
    start = float(np.mean(smoothed[:span]))
    fall = start - smoothed[bottom]
    if fall <= CLEAR * _noise(losses, span):
        return None
    level = start - FALL * fall
    above = max(step for step in range(bottom) if smoothed[step] > level)
    between = (smoothed[above] - level) / (smoothed[above] - smoothed[above + 1])
    return float(f"{rates[above] * (rates[above + 1] / rates[above]) ** between:.1e}")


def smooth(losses: Sequence[float], span: int) -> tuple[float, ...]:
    """Return running averages in which a loss loses 1/`span` of its weight at every later step; unbiased from the first on."""
    share, total, weight = 1 - 1 / span, 0.0, 0.0
    averages: list[float] = []
    for loss in losses:
        total, weight = share * total + loss, share * weight + 1
        averages.append(total / weight)
    return tuple(averages)


def _diverged(losses: Sequence[float], span: int) -> bool:
    """Whether the last loss is not finite, or the average back above that of the first `span` steps and far above the least."""
    if not math.isfinite(losses[-1]):
        return True
    smoothed = smooth(losses, span)
    return len(losses) > span and smoothed[-1] > max(float(np.mean(smoothed[:span])), REBOUND * min(smoothed[span:]))


def _noise(losses: Sequence[float], span: int) -> float:
    """Standard deviation of a smoothed loss, from how the losses of the first third jump: little is learned there.

    An average with weights (1 - s) s^k has (1 - s) / (1 + s) of the variance of what it averages.
    """
    early = losses[: max(2 * span, len(losses) // 3)]
    return float(np.std(np.diff(early))) / math.sqrt(2) * math.sqrt(1 / (2 * span - 1))


def _losses(
    model: nn.Module, batches: BatchSource, config: OptimConfig, runtime: Runtime, rates: Sequence[float], class_weights: Tensor | None
) -> Generator[float]:
    """Make one update with each of `rates`, yielding before it the loss it starts from."""
    model.train()
    optimizer = build_optimizer(model, config.model_copy(update={"lr": rates[0]}))
    step = Step(model, optimizer, config, runtime, class_weights)
    with closing(_endless(batches)) as stream:
        for rate in rates:
            set_learning_rate(optimizer, rate)
            group = list(islice(stream, config.accumulate))
            yield sum(float(loss) for loss, _, _ in step.gradients(group)) / len(group)
            step.update()


def _endless(batches: BatchSource) -> Generator[tuple[Tensor, Tensor]]:
    """The batches of epoch 1, of epoch 2, and so on."""
    for number in count(1):
        yield from batches.epoch(number)
