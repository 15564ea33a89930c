"""How many epochs fit into a budget, for a trainer whose schedule is a number of epochs: found by timing its first ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from contenders import Contender, Task
from measure import TrainerError, Watched, watch

MANY = 1000  # epochs of the training that is broken off
MOST_EPOCHS_TIMED, SHARE = 8, 0.25  # of the budget, when more than one epoch was timed
LIMIT = 3600.0  # seconds for a single epoch


@dataclass(frozen=True)
class EpochSeconds:
    """Seconds of the first epoch, in which processes start, and of each later one; evaluation and saving included."""

    first: float
    later: float

    def fit_into(self, budget: float) -> int:
        """Return the number of epochs, at least one, that comes nearest to the budget: half an epoch more or less."""
        return 1 + max(0, round((budget - self.first) / self.later))


def epochs_for(contender: Contender, task: Task, environment: Mapping[str, str]) -> int:
    """Return how many epochs fit, by what is known of the trainer on these images, or else by a training that is broken off."""
    known = _known(task.work).get(_name(contender, task))
    if known:
        return EpochSeconds(**known).fit_into(task.budget)
    folder = task.work / "calibration"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    def enough(seen: Watched) -> bool:
        trained, epochs = seen.wall - seen.began, len(seen.history)
        return (epochs == 1 and trained > task.budget / 2) or (
            epochs > 1 and (epochs >= MOST_EPOCHS_TIMED or trained > SHARE * task.budget)
        )

    command = contender.train(replace(task, folder=folder, epochs=MANY))
    seen = watch(command, folder, log="log.txt", environment=environment, limit=LIMIT, signs=contender.signs, enough=enough)
    return learn(contender, task, seen)


def learn(contender: Contender, task: Task, seen: Watched) -> int:
    """Keep what a training took in WORK/calibration.json; return how many epochs would have fitted."""
    ends = [row.wall for row in seen.history]
    if not ends:
        raise TrainerError(f"{contender.name}: no epoch ended, or {contender.signs.history} was not written")
    first = ends[0] - seen.began
    seconds = EpochSeconds(first, (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else first)
    known = {**_known(task.work), _name(contender, task): asdict(seconds)}
    _store(task.work).write_text(json.dumps(known, indent=2), "utf-8")
    return seconds.fit_into(task.budget)


def _name(contender: Contender, task: Task) -> str:
    return f"{task.division.name}, {contender.name}"


def _store(work: Path) -> Path:
    return work / "calibration.json"


def _known(work: Path) -> dict[str, dict[str, float]]:
    return json.loads(_store(work).read_text("utf-8")) if _store(work).is_file() else {}
