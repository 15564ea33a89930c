from __future__ import annotations

import os
from itertools import count

import pytest
import torch

from cnnkit.speed import stopwatch
from cnnkit.speed.stopwatch import Meter, Stopwatch, timed
from cnnkit.speed.values import Memory


class Hands:
    """Clocks that stand still until work moves them."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self.settled = 0

    def meter(self) -> Meter:
        return Meter(lambda: self.wall, lambda: self.cpu, lambda: 0.0, lambda: Memory(7))

    def work(self, seconds: float, images: int = 10):
        for _ in count():
            self.wall += seconds
            self.cpu += 2 * seconds
            yield images

    def settle(self) -> None:
        self.settled += 1
        self.wall += 0.5


def test_portions_are_counted_after_the_warm_up_until_the_time_is_over():
    hands = Hands()
    stage = timed(hands.work(0.25), 2.0, hands.meter())
    assert (stage.images, stage.seconds, stage.cpu_seconds) == (80, 2.0, 4.0)
    assert hands.wall == 2.5, "a quarter of the time warms up"
    assert stage.memory == Memory(7)


def test_slow_portions_are_one_to_warm_up_and_two_that_count():
    hands = Hands()
    stage = timed(hands.work(60), 2.0, hands.meter())
    assert (stage.images, stage.seconds) == (20, 120)


def test_a_device_that_works_ahead_is_waited_for_within_the_time():
    hands = Hands()
    stage = timed(hands.work(0.25), 2.0, hands.meter(), hands.settle)
    assert hands.settled == 2
    assert stage.seconds == 2.5


def test_waiting_in_the_warm_up_does_not_count():
    hands = Hands()
    watch = Stopwatch(1.0, hands.meter())
    for _ in range(5):
        watch.waited(0.1)
        hands.wall += 0.5
        if not watch.going(1):
            break
    assert watch.stage.wait_seconds == pytest.approx(0.2)
    assert watch.stage.seconds == 1.0


def test_the_real_clocks_run():
    before = stopwatch.cpu_seconds(), stopwatch.machine_seconds()
    while stopwatch.cpu_seconds() < before[0] + 0.03:
        torch.randn(100, 100).mm(torch.randn(100, 100))
    assert stopwatch.machine_seconds() > before[1]


def test_memory_of_this_process():
    found = stopwatch.memory()
    assert found.peak_rss_bytes > 50_000_000, "torch alone is more"
    assert found.gpu_peak_bytes is None or torch.cuda.is_initialized()
    assert 1 <= stopwatch.cores() <= (os.cpu_count() or 1)
