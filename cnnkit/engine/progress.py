"""The progress of a training, measured in epochs or in seconds of a time budget."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol

from cnnkit.config.settings import OptimConfig

Clock = Callable[[], float]
MAX_WARMUP_SHARE = 0.2  # of a time budget: warm-up must not use up the budget of a slow machine
MAX_EVALUATION_SHARE = 0.05  # of a time budget, without the first and the last evaluation: the network learns nothing meanwhile
RESERVE_FACTOR = 1.1  # on the seconds of the previous evaluation and saving: machines are noisy
EVALUATION_TIME_RATIO = 0.4  # of a batch in evaluation to a training step, until an evaluation was timed; 0.3 to 0.4 are usual


class TrainingProgress(Protocol):
    """The position of a training in its schedule, as the loop asks for it."""

    def warmup_factor(self, step: int) -> float:
        """Return the factor of warm-up on the learning rate at `step` (from 0), in (0, 1]; it is 1 after warm-up."""
        ...

    def decay_progress(self, step: int) -> float:
        """Return the share of the training after warm-up that is done at `step`, 0 to 1."""
        ...

    def is_finished(self, epoch: int) -> bool:
        """Return whether the training ends after `epoch` epochs."""
        ...

    def should_end_epoch(self, step: int) -> bool:
        """Return whether the epoch must end now, after `step` updates."""
        ...

    def should_evaluate(self) -> bool:
        """Return whether the epoch that has just ended should be evaluated."""
        ...

    def record_evaluation(self, seconds: float) -> None:
        """Record the `seconds` that the latest evaluation and saving took."""
        ...

    @property
    def spent(self) -> float:
        """Seconds of the time budget that are spent, before and after a resume; 0 without a budget."""
        ...


class EpochProgress:
    """Progress through a number of epochs of `steps` updates each; every method is a pure function of epoch or step."""

    def __init__(self, config: OptimConfig, steps: int) -> None:
        self._epochs = config.epochs
        self._total = steps * config.epochs
        self._warmup = round(steps * config.warmup_epochs)

    def warmup_factor(self, step: int) -> float:
        """Return the factor of warm-up on the learning rate, which rises linearly."""
        return min(1.0, (step + 1) / self._warmup) if self._warmup else 1.0

    def decay_progress(self, step: int) -> float:
        """Return the share of the steps after warm-up that are done."""
        return max(0.0, (step - self._warmup) / max(1, self._total - self._warmup))

    def is_finished(self, epoch: int) -> bool:
        """Return whether all epochs are done."""
        return epoch >= self._epochs

    def should_end_epoch(self, step: int) -> bool:
        """Return False: every epoch is trained to its end."""
        del step
        return False

    def should_evaluate(self) -> bool:
        """Return True: every epoch is evaluated."""
        return True

    def record_evaluation(self, seconds: float) -> None:
        """Do nothing: time does not matter here."""

    @property
    def spent(self) -> float:
        """0: there is no time budget."""
        return 0.0


class BudgetProgress:
    """Progress through ``config.budget`` seconds, of which `spent` passed before a resume.

    The budget includes evaluation and saving. Time for the last evaluation is kept in reserve, as much as the previous one
    took. `validation` is the number of batches of one evaluation.
    """

    def __init__(self, config: OptimConfig, steps: int, *, validation: int, spent: float = 0.0, clock: Clock = time.perf_counter) -> None:
        self._budget = config.budget
        self._warmup = round(steps * config.warmup_epochs)
        self._validation = validation
        self._clock = clock
        self._spent_before = spent
        self._start = clock() - spent
        self._first_step: int | None = None
        self._step_seconds = 0.0
        self._reserve: float | None = None  # seconds for the last evaluation; None until an evaluation was timed
        self._min_interval = 0.0  # seconds between two evaluations
        self._last_evaluation = -math.inf  # the time at which it ended
        self._was_evaluated = True  # whether the latest epoch was evaluated
        self._warmup_end = 0.0 if not self._warmup else None  # the share of the budget spent by then; None during warm-up

    @property
    def spent(self) -> float:
        """Seconds of the budget that are spent, before and after a resume."""
        return self._clock() - self._start

    def warmup_factor(self, step: int) -> float:
        """Return the factor of warm-up on the learning rate: it rises by steps, or by time if `MAX_WARMUP_SHARE` passes first."""
        if self._warmup_end is not None:
            return 1.0
        factor = max((step + 1) / self._warmup, self._spent_share() / MAX_WARMUP_SHARE)
        if factor >= 1:  # after a resume the end of warm-up lies further back than this step
            self._warmup_end = min(MAX_WARMUP_SHARE, self._spent_share() * min(1.0, self._warmup / (step + 1)))
        return min(1.0, factor)

    def decay_progress(self, step: int) -> float:
        """Return the share of the time after warm-up that is spent."""
        del step
        if self._warmup_end is None:
            return 0.0
        return min(1.0, max(0.0, (self._spent_share() - self._warmup_end) / (1 - self._warmup_end)))

    def is_finished(self, epoch: int) -> bool:
        """Return whether the time is up; at least one epoch is trained or a start evaluated, and the last one is always evaluated."""
        has_model = epoch > 0 or self._reserve is not None
        return has_model and self._spent_share() >= 1 and self._was_evaluated

    def should_end_epoch(self, step: int) -> bool:
        """Return whether the last evaluation needs the rest of the budget."""
        if self._first_step is None:
            self._first_step = step
        elif self._reserve is None:
            self._step_seconds = (self.spent - self._spent_before) / (step - self._first_step + 1)
        return self._spent_share() >= 1

    def should_evaluate(self) -> bool:
        """Return whether an evaluation keeps all evaluations within `MAX_EVALUATION_SHARE` of the budget.

        It must be far enough from the previous evaluation and from the last one, which comes at the end of the budget.
        The first epoch and the last are always evaluated.
        """
        self._was_evaluated = True
        if self._reserve is not None and self._spent_share() < 1:
            left = self._budget - self._reserve - self.spent
            self._was_evaluated = min(self._clock() - self._last_evaluation, left) >= self._min_interval
        return self._was_evaluated

    def record_evaluation(self, seconds: float) -> None:
        """Reserve as much time for the last evaluation as this one took, and a little more."""
        self._reserve = RESERVE_FACTOR * seconds
        self._min_interval = seconds / MAX_EVALUATION_SHARE
        self._last_evaluation = self._clock()

    def _spent_share(self) -> float:
        """Return the spent share of the budget without the reserve; 1 or more when only the last evaluation is left."""
        reserve = self._reserve if self._reserve is not None else EVALUATION_TIME_RATIO * self._step_seconds * self._validation
        return self.spent / max(self._budget - reserve, 1e-9)


def choose_progress(
    config: OptimConfig, steps: int, *, validation: int, spent: float = 0.0, clock: Clock = time.perf_counter
) -> TrainingProgress:
    """Return the progress by time if `config` has a budget, else by epochs.

    An epoch has `steps` updates, an evaluation `validation` batches; `spent` seconds of the budget passed before a resume.
    """
    return BudgetProgress(config, steps, validation=validation, spent=spent, clock=clock) if config.budget else EpochProgress(config, steps)
