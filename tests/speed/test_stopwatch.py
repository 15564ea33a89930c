from __future__ import annotations

import os
from itertools import count

import pytest
import torch

from cnnkit.speed import stopwatch
from cnnkit.speed.stopwatch import Meter, Stopwatch, time_portions
from cnnkit.speed.values import Memory


class Hands:
    """Clocks that only work moves."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self.synchronized = 0

    def meter(self) -> Meter:
        return Meter(lambda: self.wall, lambda: self.cpu, lambda: 0.0, lambda: Memory(7))

    def work(self, seconds: float, images: int = 10):
        for _ in count():
            self.wall += seconds
            self.cpu += 2 * seconds
            yield images

    def synchronize(self) -> None:
        self.synchronized += 1
        self.wall += 0.5


def test_portions_count_from_the_warm_up_to_the_end_of_the_time():
    hands = Hands()
    stage = time_portions(hands.work(0.25), 2.0, hands.meter())
    assert (stage.images, stage.seconds, stage.cpu_seconds) == (80, 2.0, 4.0)
    assert hands.wall == 2.5, "a quarter of the time warms up"
    assert stage.memory == Memory(7)


def test_one_slow_portion_warms_up_and_two_count():
    hands = Hands()
    stage = time_portions(hands.work(60), 2.0, hands.meter())
    assert (stage.images, stage.seconds) == (20, 120)


def test_the_time_includes_waiting_for_a_device():
    hands = Hands()
    stage = time_portions(hands.work(0.25), 2.0, hands.meter(), hands.synchronize)
    assert hands.synchronized == 2
    assert stage.seconds == 2.5


def test_a_wait_in_the_warm_up_does_not_count():
    hands = Hands()
    watch = Stopwatch(1.0, hands.meter())
    for _ in range(5):
        watch.add_wait(0.1)
        hands.wall += 0.5
        if not watch.should_continue_after(1):
            break
    assert watch.stage.wait_seconds == pytest.approx(0.2)
    assert watch.stage.seconds == 1.0


def test_the_real_clocks_advance():
    before = stopwatch.cpu_seconds(), stopwatch.machine_seconds()
    while stopwatch.cpu_seconds() < before[0] + 0.03:
        torch.randn(100, 100).mm(torch.randn(100, 100))
    assert stopwatch.machine_seconds() > before[1]


def test_memory_of_this_process():
    found = stopwatch.memory()
    assert found.peak_rss_bytes > 50_000_000, "torch alone takes more"
    assert found.gpu_peak_bytes is None or torch.cuda.is_initialized()
    assert 1 <= stopwatch.cores() <= (os.cpu_count() or 1)
