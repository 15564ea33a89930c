"""The workers of a search: the process that trains a trial, its sign of life, and the signs that it has ended."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from cnnkit.run_dir.owner import Owner

if TYPE_CHECKING:
    from cnnkit.tuning.trials import StoredTrial

BEAT_SECONDS = 20.0  # between two signs of life of a worker
# Without a sign of life for this time, a worker that cannot be seen from here has ended: six beats, as a storage may be slow.
GRACE_SECONDS = 120.0
# A trial is taken and its worker written within milliseconds; a trial without a worker for this time was lost in between.
CLAIM_SECONDS = 10.0
MAX_DEATHS = 3  # of workers in the same epoch of a trial: the trial itself ends them, as by the system when the memory is full


@dataclass(frozen=True)
class Worker:
    """A process that trains trials; its `token` differs from that of every other worker, also of the same process later."""

    owner: Owner
    token: str

    @classmethod
    def this_process(cls) -> Self:
        """Return a new worker of the present process."""
        return cls(Owner.this_process(), uuid.uuid4().hex)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {"token": self.token, **self.owner.model_dump()}

    @classmethod
    def from_dict(cls, value: object) -> Self | None:
        """Return the worker that `to_dict` gave; None for any other value."""
        if not isinstance(value, Mapping):
            return None
        with suppress(ValidationError):
            return cls(Owner.model_validate(dict(value)), str(value.get("token", "")))
        return None


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
