"""How far a training is: by epochs, or by the share of a time budget that is spent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol

from cnnkit.config.settings import OptimConfig

Clock = Callable[[], float]
WARMUP_SHARE = 0.2  # of a budget that warm-up may take at most: a slow machine must not spend it all on rising
CAUTION = 1.1  # times what an evaluation and saving last took: machines are noisy
EVALUATION_SHARE = 0.05  # of a budget that evaluations may take, without the first and the last: time for them is none for learning
GUESS = 0.4  # of the time of a training step that a batch takes in evaluation, until one was timed: it is 0.3 to 0.4


class Pace(Protocol):
    """What the loop asks: how much of the warm-up and of the fall of the learning rate lies behind, and whether to go on."""

    def rise(self, step: int) -> float:
        """Return the factor of the learning rate at `step` (from 0), in (0, 1]: 1 once warm-up is over."""
        ...

    def fall(self, step: int) -> float:
        """Return the share, 0 to 1, of what comes after warm-up that lies behind at `step`."""
        ...

    def over(self, epoch: int) -> bool:
        """Whether no epoch may begin after `epoch` of them."""
        ...

    def stop(self, step: int) -> bool:
        """Whether the epoch must end now, after `step` updates."""
        ...

    def due(self) -> bool:
        """Whether the epoch that has just ended is to be evaluated."""
        ...

    def evaluated(self, seconds: float) -> None:
        """Hear how long evaluating and saving took."""
        ...

    @property
    def spent(self) -> float:
        """Seconds of a budget that are spent, before and after a resume."""
        ...


class ByEpochs:
    """A schedule over a number of epochs of `steps` updates; pure functions of the step."""

    def __init__(self, config: OptimConfig, steps: int) -> None:
        self._epochs = config.epochs
        self._total = steps * config.epochs
        self._warmup = round(steps * config.warmup_epochs)

    def rise(self, step: int) -> float:
        """Return the factor of the learning rate: a linear rise over the warm-up."""
        return min(1.0, (step + 1) / self._warmup) if self._warmup else 1.0

    def fall(self, step: int) -> float:
        """Return the share of the steps after warm-up that are done."""
        return max(0.0, (step - self._warmup) / max(1, self._total - self._warmup))

    def over(self, epoch: int) -> bool:
        """Whether all epochs are done."""
        return epoch >= self._epochs

    def stop(self, step: int) -> bool:
        """Whole epochs are trained."""
        del step
        return False

    def due(self) -> bool:
        """Every epoch is evaluated."""
        return True

    def evaluated(self, seconds: float) -> None:
        """Time plays no part."""

    @property
    def spent(self) -> float:
        """There is no budget."""
        return 0.0


class ByTime:
    """A schedule over ``config.budget`` seconds, evaluation and saving included; `spent` of them before a resume.

    The last evaluation must fit in, so that many seconds as the one before took are kept back. `validation` is the number of
    batches of an evaluation.
    """

    def __init__(self, config: OptimConfig, steps: int, *, validation: int, spent: float = 0.0, clock: Clock = time.perf_counter) -> None:
        self._budget = config.budget
        self._warmup = round(steps * config.warmup_epochs)
        self._validation = validation
        self._clock = clock
        self._start = clock() - spent
        self._trained = 0.0  # seconds in training steps, to guess what an evaluation takes
        self._first: int | None = None
        self._reserve: float | None = None
        self._between = 0.0  # seconds of training that one evaluation is worth
        self._last = -math.inf  # when the last one ended
        self._evaluating = True  # after the latest epoch
        self._risen = 0.0 if not self._warmup else None

    @property
    def spent(self) -> float:
        """Seconds since the training began, before and after a resume."""
        return self._clock() - self._start

    def rise(self, step: int) -> float:
        """Return the factor of the learning rate: a linear rise over the warm-up, or over `WARMUP_SHARE` of the time if that is less."""
        if self._risen is not None:
            return 1.0
        rise = max((step + 1) / self._warmup, self._share() / WARMUP_SHARE)
        if rise >= 1:
            self._risen = self._share()
        return min(1.0, rise)

    def fall(self, step: int) -> float:
        """Return the share of the time after warm-up that is spent."""
        del step
        if self._risen is None:
            return 0.0
        return min(1.0, max(0.0, (self._share() - self._risen) / (1 - self._risen)))

    def over(self, epoch: int) -> bool:
        """Whether the time is up; one epoch is begun whatever the budget."""
        return epoch > 0 and self._share() >= 1 and self._evaluating  # the time may have run out since that was left out

    def stop(self, step: int) -> bool:
        """Whether what is left of the budget is needed for the last evaluation."""
        if self._first is None:
            self._first = step
        elif self._reserve is None:
            self._trained = self.spent / (step - self._first + 1)
        return self._share() >= 1

    def due(self) -> bool:
        """Whether so much was trained since the last evaluation, and is left until the final one, that evaluations keep to their share.

        The first epoch and the last are evaluated whatever it takes.
        """
        self._evaluating = True
        if self._reserve is not None and self._share() < 1:
            left = self._budget - self._reserve - self.spent
            self._evaluating = min(self._clock() - self._last, left) >= self._between
        return self._evaluating

    def evaluated(self, seconds: float) -> None:
        """Keep back as much for the last evaluation as this one took, and a little more."""
        self._reserve = CAUTION * seconds
        self._between = seconds / EVALUATION_SHARE
        self._last = self._clock()

    def _share(self) -> float:
        reserve = self._reserve if self._reserve is not None else GUESS * self._trained * self._validation
        return self.spent / max(self._budget - reserve, 1e-9)


def choose_pace(config: OptimConfig, steps: int, *, validation: int, spent: float = 0.0, clock: Clock = time.perf_counter) -> Pace:
    """Return the pace that `config` asks for, for epochs of `steps` updates and evaluations of `validation` batches."""
    return ByTime(config, steps, validation=validation, spent=spent, clock=clock) if config.budget else ByEpochs(config, steps)
