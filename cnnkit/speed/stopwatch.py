"""The stopwatch of a stage of work: wall time after a warm-up, CPU time and memory."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import psutil
import torch

from cnnkit.speed.values import Memory, StageSpeed

WARM_UP_SHARE = 0.25  # of a stage's seconds, before the timing starts: the stage chooses kernels, fills caches and allocates memory
MIN_PORTIONS = 2  # of a timing, also if they take long, because an interruption may fall on one of them
MAX_BUSY_SHARE = 0.1  # of the processors, used by other programs; above, the figures are too low


def cpu_seconds() -> float:
    """Return the CPU-seconds of this process and its children; on Windows without the children that have ended."""
    total = 0.0
    for process in _own_processes():
        with suppress(psutil.Error):  # the process has just ended
            total += sum(process.cpu_times()[:4])  # user and system, own and of ended children
    return total


def process_age() -> float:
    """Return the seconds since this process started, of which the start of Python and the imports are the first."""
    return time.time() - psutil.Process().create_time()


def machine_seconds() -> float:
    """Return the CPU-seconds of all programs since the machine started."""
    times = psutil.cpu_times()
    counted_twice_or_idle = ("idle", "iowait", "guest", "guest_nice")  # user and nice include the guests
    return float(sum(times) - sum(getattr(times, name, 0.0) for name in counted_twice_or_idle))


def memory() -> Memory:
    """Return the memory of this process and its children."""
    pss: list[int] = []
    for process in _own_processes():
        with suppress(psutil.Error):
            pss.append(getattr(process.memory_full_info(), "pss", 0))
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None
    return Memory(_peak_rss(), sum(pss) or None, gpu)


@dataclass(frozen=True)
class Meter:
    """The clocks that a stopwatch reads; a test replaces them."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = cpu_seconds
    machine: Callable[[], float] = machine_seconds
    memory: Callable[[], Memory] = memory
    cores: int = psutil.cpu_count() or 1


class OtherPrograms:
    """The load that other programs put on the processors, measured from the construction of the object."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._began = self._read()

    def share(self) -> float:
        """Return the share of the processors that other programs used, 0 to 1; above `MAX_BUSY_SHARE` timings are doubtful."""
        wall, own, everybody = (now - then for now, then in zip(self._read(), self._began, strict=True))
        return min(1.0, max(0.0, (everybody - own) / (wall * self._meter.cores))) if wall > 0 else 0.0

    def _read(self) -> tuple[float, float, float]:
        return self._meter.wall(), self._meter.cpu(), self._meter.machine()


class Stopwatch:
    """The stopwatch of one stage, called by the worker after every portion; `synchronize` waits for a device that works ahead.

    The portions of the first `WARM_UP_SHARE` of `seconds`, at least one, do not count. The timing then lasts `seconds`, and at least
    `MIN_PORTIONS` portions.
    """

    def __init__(self, seconds: float, meter: Meter, synchronize: Callable[[], object] = lambda: None) -> None:
        self._seconds = seconds
        self._meter = meter
        self._synchronize = synchronize
        self._began = meter.wall()
        self._counting = False
        self._images = self._portions = 0
        self._wall = self._cpu = self._waited = 0.0
        self._stage: StageSpeed | None = None

    def should_continue_after(self, images: int) -> bool:
        """Count a finished portion of `images` images and tell whether the worker should do another portion."""
        if not self._counting:
            if self._meter.wall() - self._began >= WARM_UP_SHARE * self._seconds:
                self._synchronize()
                self._counting, self._waited = True, 0.0
                self._cpu, self._wall = self._meter.cpu(), self._meter.wall()
            return True
        self._images += images
        self._portions += 1
        if self._portions < MIN_PORTIONS or self._meter.wall() - self._wall < self._seconds:
            return True
        self._synchronize()
        seconds, cpu = self._meter.wall() - self._wall, self._meter.cpu() - self._cpu
        self._stage = StageSpeed(self._images, seconds, cpu, self._meter.memory(), self._waited)
        return False

    def add_wait(self, seconds: float) -> None:
        """Count `seconds` that the worker spent waiting."""
        self._waited += seconds

    @property
    def stage(self) -> StageSpeed:
        """The measurement, complete once `should_continue_after` has returned False."""
        assert self._stage is not None  # noqa: S101 (the portions are endless)
        return self._stage


def time_portions(portions: Iterable[int], seconds: float, meter: Meter, synchronize: Callable[[], object] = lambda: None) -> StageSpeed:
    """Time endless `portions` of work; each yields its number of images when it is done."""
    watch = Stopwatch(seconds, meter, synchronize)
    for images in portions:
        if not watch.should_continue_after(images):
            break
    return watch.stage


def synchronizer(device: torch.device) -> Callable[[], object]:
    """Return a function that waits until `device` has finished its work."""
    waits: dict[str, Callable[[], object]] = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}
    return waits.get(device.type, lambda: None)


def _own_processes() -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def _peak_rss() -> int:
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, the others KiB


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
