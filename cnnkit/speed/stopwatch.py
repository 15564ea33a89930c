"""Timing a stage of work: a warm-up, then so many seconds by the clock, CPU time and memory beside it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import psutil
import torch

from cnnkit.speed.values import Memory, Stage

WARM_UP = 0.25  # of a stage's seconds that pass before it is timed: kernels are chosen, caches filled, memory fetched
LEAST = 2  # portions that are timed, however long they take: one batch may fall on an interruption
BUSY = 0.1  # share of the processors that other programs use from which on figures are too low


def cpu_seconds() -> float:
    """CPU-seconds of this process and its children; of those that have ended only where the system remembers (not on Windows)."""
    total = 0.0
    for process in _family():
        with suppress(psutil.Error):  # it ended in between
            total += sum(process.cpu_times()[:4])  # user, system, and the same of children that have ended
    return total


def machine_seconds() -> float:
    """CPU-seconds of all programs of this machine since it started."""
    times = psutil.cpu_times()
    counted_twice_or_idle = ("idle", "iowait", "guest", "guest_nice")  # guests are in user and nice already
    return float(sum(times) - sum(getattr(times, name, 0.0) for name in counted_twice_or_idle))


def memory() -> Memory:
    """Memory of this process and its children now."""
    pss: list[int] = []
    for process in _family():
        with suppress(psutil.Error):
            pss.append(getattr(process.memory_full_info(), "pss", 0))
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None
    return Memory(_peak_rss(), sum(pss) or None, gpu)


@dataclass(frozen=True)
class Meter:
    """What a stopwatch reads; a test puts its own clocks here."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = cpu_seconds
    machine: Callable[[], float] = machine_seconds
    memory: Callable[[], Memory] = memory
    cores: int = psutil.cpu_count() or 1


class Others:
    """Watches, from its making on, what share of the processors other programs use."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._began = self._read()

    def share(self) -> float:
        """Return it so far, 0 to 1; more than `BUSY` makes what was timed meanwhile doubtful."""
        wall, own, everybody = (now - then for now, then in zip(self._read(), self._began, strict=True))
        return min(1.0, max(0.0, (everybody - own) / (wall * self._meter.cores))) if wall > 0 else 0.0

    def _read(self) -> tuple[float, float, float]:
        return self._meter.wall(), self._meter.cpu(), self._meter.machine()


class Stopwatch:
    """Times one stage. Whoever works asks after every portion whether to go on; `settle` waits for a device that works ahead.

    The first portion, and all until `WARM_UP` of `seconds` have passed, are not counted; then portions are, until `seconds`
    have passed and there were `LEAST` of them.
    """

    def __init__(self, seconds: float, meter: Meter, settle: Callable[[], object] = lambda: None) -> None:
        self._seconds = seconds
        self._meter = meter
        self._settle = settle
        self._began = meter.wall()
        self._counting = False
        self._images = self._portions = 0
        self._wall = self._cpu = self._waited = 0.0
        self._stage: Stage | None = None

    def going(self, images: int) -> bool:
        """Count a portion of `images` that was just done; return whether there is to be another."""
        if not self._counting:
            if self._meter.wall() - self._began >= WARM_UP * self._seconds:
                self._settle()
                self._counting, self._waited = True, 0.0
                self._cpu, self._wall = self._meter.cpu(), self._meter.wall()
            return True
        self._images += images
        self._portions += 1
        if self._portions < LEAST or self._meter.wall() - self._wall < self._seconds:
            return True
        self._settle()
        seconds, cpu = self._meter.wall() - self._wall, self._meter.cpu() - self._cpu
        self._stage = Stage(self._images, seconds, cpu, self._meter.memory(), self._waited)
        return False

    def waited(self, seconds: float) -> None:
        """Count time that the worker spent waiting."""
        self._waited += seconds

    @property
    def stage(self) -> Stage:
        """What was measured, once `going` has said no."""
        assert self._stage is not None  # noqa: S101 (portions never end by themselves)
        return self._stage


def timed(portions: Iterable[int], seconds: float, meter: Meter, settle: Callable[[], object] = lambda: None) -> Stage:
    """Time endless `portions` of work; each is done when its number of images comes."""
    watch = Stopwatch(seconds, meter, settle)
    for images in portions:
        if not watch.going(images):
            break
    return watch.stage


def settler(device: torch.device) -> Callable[[], object]:
    """Return what waits until `device` has done all it was told to."""
    waits: dict[str, Callable[[], object]] = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}
    return waits.get(device.type, lambda: None)


def _family() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def _peak_rss() -> int:
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, the others KiB


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
