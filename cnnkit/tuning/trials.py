"""The trials of a search as plain values, in the words of the screen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cnnkit.tuning.space import Value
from cnnkit.tuning.worker import Worker

TrialState = Literal["waiting", "running", "complete", "pruned", "failed"]
Event = Literal["begun", "resumed", "epoch", "ended", "waiting", "requeued"]
ENDED: tuple[TrialState, ...] = ("complete", "pruned", "failed")


@dataclass(frozen=True)
class StoredTrial:
    """A trial as the storage holds it.

    `number` counts from 1 (Optuna's own counts from 0). `value` is the best value of the monitored metric; None without one. `values`
    has the value of each epoch. `run` is the path of the run, `reason` says why a trial failed. `deaths` counts the workers that ended
    after the latest epoch, `resumed` all that ended. `seconds` is the time from the latest start to the end.
    """

    number: int
    state: TrialState
    params: Mapping[str, Value] = field(default_factory=dict)
    value: float | None = None
    values: Mapping[int, float] = field(default_factory=dict)
    run: str = ""
    reason: str = ""
    worker: Worker | None = None
    beat: int = 0
    deaths: int = 0
    resumed: int = 0
    seconds: float | None = None

    @property
    def epoch(self) -> int:
        """The latest epoch that ended; 0 before."""
        return max(self.values, default=0)

    @property
    def has_ended(self) -> bool:
        """True for a complete, pruned or failed trial."""
        return self.state in ENDED

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as ``--json`` prints it and trials.csv holds it."""
        return {
            "number": self.number,
            "state": self.state,
            "value": self.value,
            "epochs": self.epoch,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "run": self.run,
            "host": self.worker.owner.host if self.worker else "",
            "resumed": self.resumed,
            "reason": self.reason,
            "params": dict(self.params),
        }


@dataclass(frozen=True)
class SearchNews:
    """A step of the search: the `event`, the number of its trial (None while waiting), and all trials after it.

    `epoch` is the epoch that has just ended, `epochs` their number at most. `note` tells of a state that could not be resumed. The best
    value is the largest if `maximize`.
    """

    event: Event
    trials: tuple[StoredTrial, ...]
    number: int | None = None
    epoch: int | None = None
    epochs: int | None = None
    note: str = ""
    maximize: bool = False

    @property
    def best(self) -> StoredTrial | None:
        """The best complete trial."""
        return best_of(self.trials, maximize=self.maximize)

    @property
    def trial(self) -> StoredTrial | None:
        """The trial of the event."""
        return None if self.number is None else self.trials[self.number - 1]


def best_of(trials: Iterable[StoredTrial], *, maximize: bool) -> StoredTrial | None:
    """Return the complete trial with the best value, the first of equals; None if no trial is complete."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    sign = -1.0 if maximize else 1.0
    return min(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)


def counts(trials: Sequence[StoredTrial]) -> dict[TrialState, int]:
    """Return the number of trials in each state that occurs, the ended ones first."""
    states: tuple[TrialState, ...] = (*ENDED, "running", "waiting")
    found: dict[TrialState, int] = {state: sum(trial.state == state for trial in trials) for state in states}
    return {state: number for state, number in found.items() if number}
