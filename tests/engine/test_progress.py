from __future__ import annotations

import pytest

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.progress import MAX_WARMUP_SHARE, BudgetProgress, EpochProgress, choose_progress


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def budget_progress(
    clock: Clock, *, budget: float = 100.0, steps: int = 10, warmup: float = 1.0, validation: int = 4, spent: float = 0.0
) -> BudgetProgress:
    return BudgetProgress(OptimConfig(budget=budget, warmup_epochs=warmup), steps, validation=validation, spent=spent, clock=clock)


def test_a_budget_chooses_progress_by_time() -> None:
    assert isinstance(choose_progress(OptimConfig(), 5, validation=1), EpochProgress)
    assert isinstance(choose_progress(OptimConfig(budget=60), 5, validation=1), BudgetProgress)


def test_epochs_are_counted_and_never_cut_short() -> None:
    progress = EpochProgress(OptimConfig(epochs=3), 10)
    assert [progress.is_finished(epoch) for epoch in range(5)] == [False, False, False, True, True]
    assert not any(progress.should_end_epoch(step) for step in range(40))


def test_warmup_follows_the_steps_and_decay_the_clock(clock: Clock) -> None:
    progress = budget_progress(clock)
    assert [progress.warmup_factor(step) for step in (0, 4)] == [0.1, 0.5]
    assert progress.decay_progress(5) == 0
    clock.now = 10.0
    assert progress.warmup_factor(9) == 1
    assert progress.decay_progress(10) == 0
    clock.now = 55.0
    assert (progress.warmup_factor(50), progress.decay_progress(50)) == (1, pytest.approx(0.5))
    clock.now = 130.0
    assert progress.decay_progress(90) == 1


def test_a_slow_machine_does_not_spend_its_budget_on_warmup(clock: Clock) -> None:
    progress = budget_progress(clock, steps=1000)
    clock.now = 100 * MAX_WARMUP_SHARE / 2
    assert progress.warmup_factor(3) == pytest.approx(0.5)
    clock.now = 100 * MAX_WARMUP_SHARE
    assert progress.warmup_factor(6) == 1


def test_without_warmup_the_decay_begins_at_once(clock: Clock) -> None:
    progress = budget_progress(clock, warmup=0)
    clock.now = 25.0
    assert (progress.warmup_factor(0), progress.decay_progress(0)) == (1, 0.25)


def test_the_last_evaluation_fits_into_the_budget(clock: Clock) -> None:
    progress = budget_progress(clock)
    progress.record_evaluation(10.0)
    clock.now = 88.9
    assert not progress.should_end_epoch(50)
    clock.now = 89.1  # the reserve is 11 s: a tenth more than the last evaluation took
    assert progress.should_end_epoch(51)
    assert progress.is_finished(1)


def test_the_time_of_the_first_evaluation_is_estimated_from_the_steps(clock: Clock) -> None:
    progress = budget_progress(clock, validation=10)
    assert not progress.should_end_epoch(1)
    clock.now = 8.0
    assert not progress.should_end_epoch(2)  # 4 s per step, so an evaluation of 10 batches may take 16 s
    clock.now = 80.0
    assert not progress.should_end_epoch(20)
    clock.now = 84.1
    assert progress.should_end_epoch(21)


def test_twenty_times_the_time_of_an_evaluation_lies_between_two_evaluations(clock: Clock) -> None:
    progress = budget_progress(clock)
    assert progress.should_evaluate()  # its time is unknown
    clock.now = 10.0
    progress.record_evaluation(1.0)
    for now, expected in ((29.9, False), (30.1, True), (78.8, True), (78.95, False), (98.8, False), (98.95, True)):
        clock.now = now
        assert progress.should_evaluate() is expected, now


def test_without_a_budget_every_epoch_is_evaluated() -> None:
    progress = EpochProgress(OptimConfig(epochs=3), 10)
    progress.record_evaluation(1000.0)
    assert progress.should_evaluate()


def test_the_smallest_budget_begins_one_epoch(clock: Clock) -> None:
    progress = budget_progress(clock, budget=1.0)
    clock.now = 5.0
    assert (progress.is_finished(0), progress.is_finished(1)) == (False, True)


@pytest.mark.parametrize("step", [60, 8])  # warm-up ended by steps on a fast machine, by time on a slow one
def test_a_resume_after_warmup_continues_the_decay(clock: Clock, step: int) -> None:
    progress = budget_progress(clock, spent=60.0)
    assert progress.warmup_factor(step) == 1
    assert progress.decay_progress(step) == pytest.approx({60: (0.6 - 0.1) / 0.9, 8: (0.6 - 0.2) / 0.8}[step], abs=0.01)


def test_the_time_before_a_resume_does_not_count_as_time_of_steps(clock: Clock) -> None:
    progress = budget_progress(clock, validation=10, spent=60.0)
    assert not progress.should_end_epoch(61)
    clock.now = 2.0
    assert not progress.should_end_epoch(62)  # 1 s per step, so an evaluation of 10 batches may take 4 s


def test_the_time_before_a_resume_counts(clock: Clock) -> None:
    clock.now = 1000.0
    progress = budget_progress(clock, spent=60.0, warmup=0)
    assert (progress.spent, progress.decay_progress(0)) == (60, 0.6)
