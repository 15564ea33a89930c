"""The study of a search: its trials in a storage that several processes share, proposed and pruned by Optuna.

Optuna's own heartbeat ends a dead worker's trial as failed and copies it. Here the same trial waits again, with its parameters and
its run, and the worker that takes it resumes the run. A worker writes its token into its trial and reads it before each report, so
a worker that was wrongly believed dead leaves the trial to its successor.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cnnkit.config.search import DEFAULT_SAMPLER, Sampler
from cnnkit.errors import ConfigError, DataError
from cnnkit.files import locked
from cnnkit.files.whole import make_folder
from cnnkit.tuning.space import Domain, Range, SearchSpace, Value
from cnnkit.tuning.storage import Storage, import_optuna, quiet
from cnnkit.tuning.trials import StoredTrial, TrialState
from cnnkit.tuning.watch import MAX_DEATHS, Watch
from cnnkit.tuning.worker import Worker

if TYPE_CHECKING:
    import optuna

MIN_STARTUP_TRIALS, MAX_STARTUP_TRIALS = 4, 10  # drawn at random before the sampler uses the results
STARTUP_SHARE = 4  # one of so many trials is drawn at random
MIN_COMPLETE_TRIALS = 3  # before the median of an epoch means anything
WARMUP_SHARE = 4  # no trial is pruned in the first quarter of its epochs, nor in the first one
SEED_STRIDE = 1_000_003  # a prime: the draws of a trial depend on the seed and on the number of trials before it
_STATES: dict[str, TrialState] = {
    "WAITING": "waiting",
    "RUNNING": "running",
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
}
_RUN, _WORKER, _BEAT, _REASON, _DEATHS, _RESUMED = "run", "worker", "beat", "reason", "deaths", "resumed"
_KEY, _IMAGES = "cnnkit", "images"  # of the study's attributes: its identity, and the SHA-256 of its images


class LostTrialError(Exception):
    """The trial of this worker belongs to another worker now, because this one was silent for too long."""


@dataclass(frozen=True)
class StudyOptions:
    """The fixed choices of a study: the direction, the draws, and the pruning over `epochs`; `trials` is the number in all."""

    maximize: bool
    trials: int
    epochs: int
    seed: int = 0
    sampler: Sampler = DEFAULT_SAMPLER
    prune: bool = True


@dataclass(frozen=True)
class Claim:
    """A trial that this worker has taken; `is_new` is False for a trial that another worker began."""

    trial: optuna.Trial
    stored: StoredTrial

    @property
    def number(self) -> int:
        """The number of the trial, from 1."""
        return self.stored.number

    @property
    def is_new(self) -> bool:
        """True if no worker has begun to train the trial."""
        return not self.stored.resumed and not self.stored.run


class Study:
    """The trials of the search `name` in a journal file of `folder`, or in the database at the URL `storage`.

    Raises `MissingExtraError` if Optuna or the driver of the database is not installed, and `ConfigError` if the storage cannot be
    opened.
    """

    def __init__(self, folder: Path, name: str, options: StudyOptions, storage: str | None = None) -> None:
        self.folder, self.name, self.options = folder, name, options
        self._optuna = import_optuna()
        self._worker, self._watch = Worker.this_process(), Watch()
        self.storage = Storage(folder, storage)
        make_folder(folder)
        with quiet(), self.storage.opened() as self._opened:
            direction = "maximize" if options.maximize else "minimize"
            self._study = self._optuna.create_study(
                storage=self._opened, study_name=name, direction=direction, pruner=self._pruner(), load_if_exists=True
            )
            if (self._study.direction.name == "MAXIMIZE") != options.maximize:
                raise ConfigError(f"the search {name!r} was begun with another --monitor; type the same one, or another --name")

    def agree(self, identity: Mapping[str, Any]) -> str:
        """Compare the `identity` of this search with that in the storage, or store it for a new search; return the id of the search.

        `identity` has the keys id, and others that must be equal. Raises `ConfigError`, which names the first difference.
        """
        with self.storage.working(), locked(self.folder):
            stored = self._study.user_attrs.get(_KEY)
            if stored is None:
                self._study.set_user_attr(_KEY, dict(identity))
                stored = self._study.user_attrs[_KEY]
        for key, value in identity.items():
            if key != "id" and stored.get(key) != value:
                raise ConfigError(
                    f"the search {self.name!r} was begun with {_difference(key, stored.get(key), value)}; "
                    "type the flags with which it was begun, or begin another search: --name NAME"
                )
        return str(stored["id"])

    def agree_on_images(self, sha256: str) -> None:
        """Compare the images of a trial with those of the first; raises `DataError` if they differ, because this machine has others."""
        with self.storage.working(), locked(self.folder):
            stored = self._study.user_attrs.get(_IMAGES)
            if stored is None:
                self._study.set_user_attr(_IMAGES, sha256)
            elif stored != sha256:
                raise DataError(
                    f"the search {self.name!r} was begun with other images or another split; restore them, or begin another search: "
                    "--name NAME"
                )

    def trials(self) -> list[StoredTrial]:
        """Return all trials by number."""
        with self.storage.working():
            return [_stored(trial) for trial in self._study.get_trials(deepcopy=False)]

    def ask(self, space: SearchSpace, default_arch: str, first: Mapping[str, Value]) -> Claim | None:
        """Take a waiting trial or, if the number of trials allows it, a new one; None if there is neither.

        Its parameters are drawn from `space`; `first` holds those of the first trial as far as they are given. `default_arch` is the
        architecture if none is searched.
        """
        with self.storage.working(), quiet(), locked(self.folder):
            known = self._study.get_trials(deepcopy=False)
            is_waiting = any(trial.state.name == "WAITING" for trial in known)
            if not is_waiting and len(known) >= self.options.trials:
                return None
            if not known and first:
                self._study.enqueue_trial(dict(first))
            self._study.sampler = self._sampler(len(known))
            trial = self._study.ask()
            trial.set_user_attr(_WORKER, self._worker.to_dict())
        with self.storage.working(), quiet():
            arch = default_arch
            for name in space.settings:
                value = _suggest(trial, name, space.domains[name])
                arch = str(value) if name == "arch" else arch
            for name in space.options_of(arch):
                _suggest(trial, name, space.domains[name])
            return Claim(trial, self._read(trial))

    def note_run(self, claim: Claim, run: Path) -> None:
        """Store the path of the run of the trial."""
        with self._owned(claim):
            claim.trial.set_user_attr(_RUN, str(run))

    def report(self, claim: Claim, epoch: int, value: float) -> None:
        """Store the `value` of an epoch; one that is stored already, by an earlier worker, is kept.

        Raises `LostTrialError` if the trial belongs to another worker now.
        """
        with self._owned(claim) as now, quiet():
            if epoch not in now.values:
                claim.trial.report(value, epoch)

    def should_prune(self, claim: Claim) -> bool:
        """Return True if the trial is worse at its latest epoch than the median of the complete trials at that epoch."""
        with self.storage.working(), quiet():
            return self.options.prune and claim.trial.should_prune()

    def beat(self, claim: Claim) -> None:
        """Store a sign of life of the trial's worker."""
        trial = claim.trial
        trial.set_user_attr(_BEAT, int(trial.user_attrs.get(_BEAT, 0)) + 1)

    def finish(self, claim: Claim, state: Literal["complete", "pruned", "failed"], value: float | None = None, reason: str = "") -> None:
        """End the trial in `state`, with the best `value` of a complete trial or the `reason` of a failure."""
        states = self._optuna.trial.TrialState
        with self._owned(claim), quiet():
            if reason:
                claim.trial.set_user_attr(_REASON, reason)
            ended = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[state]
            self._study.tell(claim.trial, value if state == "complete" else None, state=ended)

    def requeue(self, claim: Claim) -> None:
        """Let the trial of this worker wait for another one, which resumes its run."""
        with suppress(LostTrialError), self._owned(claim) as now:
            self._wait_again(_id_of(claim.trial), now.resumed + 1)

    def requeue_dead(self) -> list[StoredTrial]:
        """Let the trials of dead workers wait again; return them. A trial whose workers keep ending in one epoch fails instead."""
        found = [trial for trial in self.trials() if trial.state == "running" and not self._is_mine(trial) and self._watch.is_dead(trial)]
        return [trial for trial in found if self._requeue_dead(trial)]

    def importances(self) -> dict[str, float]:
        """Return the share of each parameter in the differences between the complete trials; empty if none differ."""
        if len({trial.value for trial in self.trials() if trial.state == "complete"}) < 2:  # noqa: PLR2004 (a difference)
            return {}
        with quiet(), suppress(ValueError, RuntimeError, ZeroDivisionError):
            return dict(self._optuna.importance.get_param_importances(self._study))
        return {}

    def _requeue_dead(self, seen: StoredTrial) -> bool:
        with self.storage.working(), locked(self.folder):
            raw = next(trial for trial in self._study.get_trials(deepcopy=False) if trial.number + 1 == seen.number)
            now = _stored(raw)
            if now.state != "running" or now.worker != seen.worker:
                return False  # another worker was faster
            trial_id = _id_of(raw)
            deaths = {"epoch": now.epoch, "count": now.deaths + 1}
            self._opened.set_trial_user_attr(trial_id, _DEATHS, deaths)
            if now.deaths + 1 >= MAX_DEATHS:
                reason = f"{MAX_DEATHS} workers ended after epoch {now.epoch}, perhaps because the memory was full"
                self._opened.set_trial_user_attr(trial_id, _REASON, reason)
                self._opened.set_trial_state_values(trial_id, self._optuna.trial.TrialState.FAIL)
                return False
            self._wait_again(trial_id, now.resumed + 1)
        return True

    def _wait_again(self, trial_id: int, resumed: int) -> None:
        self._opened.set_trial_user_attr(trial_id, _RESUMED, resumed)
        self._opened.set_trial_user_attr(trial_id, _WORKER, None)
        self._opened.set_trial_state_values(trial_id, self._optuna.trial.TrialState.WAITING)

    def _is_mine(self, trial: StoredTrial) -> bool:
        return trial.worker is not None and trial.worker.token == self._worker.token

    def _read(self, trial: optuna.Trial) -> StoredTrial:
        return _stored(self._opened.get_trial(_id_of(trial)))

    @contextmanager
    def _owned(self, claim: Claim) -> Generator[StoredTrial]:
        """Run the body with the stored trial of `claim`, which still belongs to this worker; raises `LostTrialError` otherwise."""
        with self.storage.working():
            now = self._read(claim.trial)
            if now.state != "running" or not self._is_mine(now):
                raise LostTrialError
            try:
                yield now
            except self._optuna.exceptions.UpdateFinishedTrialError:
                raise LostTrialError from None

    def _sampler(self, known: int) -> Any:
        seed = (self.options.seed * SEED_STRIDE + known) % 2**32
        if self.options.sampler == "random":
            return self._optuna.samplers.RandomSampler(seed=seed)
        startup = min(MAX_STARTUP_TRIALS, max(MIN_STARTUP_TRIALS, self.options.trials // STARTUP_SHARE))
        return self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)

    def _pruner(self) -> Any:
        if not self.options.prune:
            return self._optuna.pruners.NopPruner()
        first = max(1, self.options.epochs // WARMUP_SHARE) + 1
        return self._optuna.pruners.MedianPruner(n_startup_trials=MIN_COMPLETE_TRIALS, n_warmup_steps=first)


def _id_of(trial: Any) -> int:
    """Return the number by which the storage knows a trial: a study cannot let a trial wait again, only its storage can."""
    return trial._trial_id  # noqa: SLF001


def _suggest(trial: Any, name: str, domain: Domain) -> Value:
    """Return the value of `name` in the Optuna `trial`, drawn from `domain` if it has none yet."""
    if not isinstance(domain, Range):
        return trial.suggest_categorical(name, domain.values)
    if domain.is_integer:
        return trial.suggest_int(name, int(domain.low), int(domain.high), step=int(domain.step or 1), log=domain.log)
    return trial.suggest_float(name, domain.low, domain.high, step=domain.step, log=domain.log)


def _stored(trial: optuna.trial.FrozenTrial) -> StoredTrial:
    attributes, values = trial.user_attrs, trial.intermediate_values
    deaths = attributes.get(_DEATHS) or {}
    begun, ended = trial.datetime_start, trial.datetime_complete
    epoch = max(values, default=0)
    return StoredTrial(
        number=trial.number + 1,
        state=_STATES[trial.state.name],
        params=trial.params,
        value=trial.value,
        values=values,
        run=attributes.get(_RUN, ""),
        reason=attributes.get(_REASON, ""),
        worker=Worker.from_dict(attributes.get(_WORKER)),
        beat=attributes.get(_BEAT, 0),
        deaths=deaths.get("count", 0) if deaths.get("epoch") == epoch else 0,
        resumed=attributes.get(_RESUMED, 0),
        seconds=(ended - begun).total_seconds() if begun and ended else None,
    )


def _difference(key: str, stored: object, given: object) -> str:
    """Return the first difference between two values of the identity: ``lr=1e-4..1e-2:log, now lr=1e-3..1e-2:log``."""
    if not isinstance(stored, Mapping) or not isinstance(given, Mapping):
        return f"{key} {stored}, now {given}"
    names = [name for name in (*stored, *given) if stored.get(name) != given.get(name)]
    if not names:
        return f"{key} in another order"
    name = names[0]
    return f"{name}={stored.get(name, '(not searched)')}, now {name}={given.get(name, '(not searched)')}"
