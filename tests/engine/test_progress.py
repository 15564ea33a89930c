from __future__ import annotations

import pytest

from cnnkit.config.settings import OptimConfig
from cnnkit.engine.progress import WARMUP_SHARE, ByEpochs, ByTime, choose_pace


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def by_time(
    clock: Clock, *, budget: float = 100.0, steps: int = 10, warmup: float = 1.0, validation: int = 4, spent: float = 0.0
) -> ByTime:
    return ByTime(OptimConfig(budget=budget, warmup_epochs=warmup), steps, validation=validation, spent=spent, clock=clock)


def test_the_configuration_chooses() -> None:
    assert isinstance(choose_pace(OptimConfig(), 5, validation=1), ByEpochs)
    assert isinstance(choose_pace(OptimConfig(budget=60), 5, validation=1), ByTime)


def test_epochs_are_whole_and_counted() -> None:
    pace = ByEpochs(OptimConfig(epochs=3), 10)
    assert [pace.over(epoch) for epoch in range(5)] == [False, False, False, True, True]
    assert not any(pace.stop(step) for step in range(40))


def test_the_rise_is_by_steps_and_the_fall_by_the_clock(clock: Clock) -> None:
    pace = by_time(clock)
    assert [pace.rise(step) for step in (0, 4)] == [0.1, 0.5]
    assert pace.fall(5) == 0
    clock.now = 10.0
    assert pace.rise(9) == 1
    assert pace.fall(10) == 0
    clock.now = 55.0
    assert (pace.rise(50), pace.fall(50)) == (1, pytest.approx(0.5))
    clock.now = 130.0
    assert pace.fall(90) == 1


def test_a_slow_machine_does_not_spend_its_time_on_warming_up(clock: Clock) -> None:
    pace = by_time(clock, steps=1000)
    clock.now = 100 * WARMUP_SHARE / 2
    assert pace.rise(3) == pytest.approx(0.5)
    clock.now = 100 * WARMUP_SHARE
    assert pace.rise(6) == 1


def test_without_warmup_the_fall_begins_at_once(clock: Clock) -> None:
    pace = by_time(clock, warmup=0)
    clock.now = 25.0
    assert (pace.rise(0), pace.fall(0)) == (1, 0.25)


def test_the_last_evaluation_fits_in(clock: Clock) -> None:
    pace = by_time(clock)
    pace.evaluated(10.0)
    clock.now = 88.9
    assert not pace.stop(50)
    clock.now = 89.1  # 11 s are kept back: a tenth more than the last one took
    assert pace.stop(51)
    assert pace.over(1)


def test_before_the_first_evaluation_one_is_guessed_from_the_steps(clock: Clock) -> None:
    pace = by_time(clock, validation=10)
    assert not pace.stop(1)
    clock.now = 8.0
    assert not pace.stop(2)  # 4 s a step, so an evaluation of 10 batches may take 16 s
    clock.now = 80.0
    assert not pace.stop(20)
    clock.now = 84.1
    assert pace.stop(21)


def test_an_evaluation_is_due_when_twenty_times_its_length_was_trained_and_is_left(clock: Clock) -> None:
    pace = by_time(clock)
    assert pace.due()  # nobody knows what one takes
    clock.now = 10.0
    pace.evaluated(1.0)
    for now, due in ((29.9, False), (30.1, True), (78.8, True), (78.95, False), (98.8, False), (98.95, True)):
        clock.now = now
        assert pace.due() is due, now


def test_epochs_that_are_counted_are_all_evaluated() -> None:
    pace = ByEpochs(OptimConfig(epochs=3), 10)
    pace.evaluated(1000.0)
    assert pace.due()


def test_one_epoch_is_begun_whatever_the_budget(clock: Clock) -> None:
    pace = by_time(clock, budget=1.0)
    clock.now = 5.0
    assert (pace.over(0), pace.over(1)) == (False, True)


def test_time_that_was_spent_before_counts(clock: Clock) -> None:
    clock.now = 1000.0
    pace = by_time(clock, spent=60.0, warmup=0)
    assert (pace.spent, pace.fall(0)) == (60, 0.6)
