from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest

from cnnkit.engine import time_limit as module
from cnnkit.engine.time_limit import TimeLimitReached, run_within


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_a_body_in_time_is_left_alone() -> None:
    assert run_within(0.05, lambda: 7) == 7
    spin(0.2)  # nothing arrives later


def test_a_long_body_is_interrupted() -> None:
    start = time.monotonic()
    with pytest.raises(TimeLimitReached):
        run_within(0.05, lambda: spin(20))
    assert time.monotonic() - start < 10
    spin(0.2)


def test_an_interruption_that_the_body_ignores_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPEAT_SECONDS", 0.05)
    caught: list[int] = []

    def ignore_two() -> None:
        for number in range(2):
            try:
                spin(20)
            except TimeLimitReached:
                caught.append(number)
        spin(20)

    with pytest.raises(TimeLimitReached):
        run_within(0.05, ignore_two)
    assert caught == [0, 1]
    spin(0.2)


def test_the_end_of_the_body_at_its_limit_leaves_nothing_behind() -> None:
    for _ in range(200):
        with suppress(TimeLimitReached):
            run_within(0.002, lambda: spin(0.002))
    spin(0.1)


def test_an_error_of_the_body_passes_and_other_threads_go_on() -> None:
    done: list[bool] = []
    other = threading.Thread(target=lambda: (spin(0.3), done.append(True)))
    other.start()
    with pytest.raises(ValueError, match="invalid literal"):
        run_within(5, lambda: int("own"))
    with pytest.raises(TimeLimitReached):
        run_within(0.05, lambda: spin(20))
    other.join()
    assert done == [True]
