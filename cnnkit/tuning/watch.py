"""The signs of life of a worker, and the signs that it has ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from cnnkit.tuning.trials import StoredTrial

BEAT_SECONDS = 20.0  # between two signs of life of a worker
# Without a sign of life for this time, a worker that cannot be seen from here has ended: six beats, as a storage may be slow.
GRACE_SECONDS = 120.0
# A trial is taken and its worker written within milliseconds; a trial without a worker for this time was lost in between.
CLAIM_SECONDS = 10.0
MAX_DEATHS = 3  # of workers in the same epoch of a trial: the trial itself ends them, as by the system when the memory is full


@dataclass
class Watch:
    """The signs of life of the trials of other workers, timed by the clock of this process.

    Clocks of several machines may differ, so no time of another machine is compared with one of this.
    """

    clock: Callable[[], float] = time.monotonic
    _seen: dict[int, tuple[object, float]] = field(default_factory=dict)

    def is_dead(self, trial: StoredTrial) -> bool:
        """Return True if the worker of the running `trial` has ended: its process is gone, or it was silent for too long."""
        worker = trial.worker
        if worker is not None and worker.owner.is_visible:
            self._seen.pop(trial.number, None)
            return worker.owner.is_dead
        sign, now = (worker and worker.token, trial.beat, len(trial.values)), self.clock()
        last, since = self._seen.get(trial.number, (None, now))
        if last != sign:
            self._seen[trial.number] = sign, now
            return False
        return now - since > (GRACE_SECONDS if worker else CLAIM_SECONDS)


@contextmanager
def beating(beat: Callable[[], object], seconds: float = BEAT_SECONDS) -> Generator[None]:
    """Call `beat` every few `seconds` while the body runs, in a thread; its errors are left to the body, which meets them too."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(seconds):
            with suppress(Exception):
                beat()

    thread = threading.Thread(target=work, name="sign-of-life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=seconds)
