"""The study of a search: its trials in a storage that several processes share, proposed and pruned by Optuna.

Optuna's own heartbeat ends a dead worker's trial as failed and copies it. Here the same trial waits again, with its parameters and
its run, and the worker that takes it resumes the run. A worker writes its token into its trial and reads it before each report, so
a worker that was wrongly believed dead leaves the trial to its successor.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cnnkit.config.search import DEFAULT_SAMPLER, Sampler
from cnnkit.errors import CnnkitError, ConfigError, DataError, MissingExtraError, ModelFileError, TrainingStoppedError, hide_passwords
from cnnkit.files import locked
from cnnkit.files.whole import make_folder
from cnnkit.tuning.space import Domain, Range, SearchSpace, Value
from cnnkit.tuning.trials import StoredTrial, TrialState
from cnnkit.tuning.watch import MAX_DEATHS, Watch
from cnnkit.tuning.worker import Worker

if TYPE_CHECKING:
    import optuna

JOURNAL_NAME = "search.journal"
MIN_STARTUP_TRIALS, MAX_STARTUP_TRIALS = 4, 10  # drawn at random before the sampler uses the results
STARTUP_SHARE = 4  # one of so many trials is drawn at random
MIN_COMPLETE_TRIALS = 3  # before the median of an epoch means anything
WARMUP_SHARE = 4  # no trial is pruned in the first quarter of its epochs, nor in the first one
MAX_OPENINGS, OPENING_SECONDS = 5, 0.5  # of an empty database, in which several workers make the tables at once
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
        self.shown_storage = shown_url(storage) if storage else str(folder / JOURNAL_NAME)
        self._optuna = import_optuna()
        self._worker, self._watch = Worker.this_process(), Watch()
        self._storage: Any = None
        make_folder(folder)
        with self._opening(), _quiet():
            direction = "maximize" if options.maximize else "minimize"
            self._storage = self._open_database(storage) if storage else self._open_journal(folder / JOURNAL_NAME)
            self._study = self._optuna.create_study(
                storage=self._storage, study_name=name, direction=direction, pruner=self._pruner(), load_if_exists=True
            )
            if (self._study.direction.name == "MAXIMIZE") != options.maximize:
                raise ConfigError(f"the search {name!r} was begun with another --monitor; type the same one, or another --name")

    def agree(self, identity: Mapping[str, Any]) -> str:
        """Compare the `identity` of this search with that in the storage, or store it for a new search; return the id of the search.

        `identity` has the keys id, and others that must be equal. Raises `ConfigError`, which names the first difference.
        """
        with self._working(), locked(self.folder):
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
        with self._working(), locked(self.folder):
            stored = self._study.user_attrs.get(_IMAGES)
            if stored is None:
                self._study.set_user_attr(_IMAGES, sha256)
            elif stored != sha256:
                raise DataError(
                    f"the search {self.name!r} was begun with other images or another split; restore them, or begin another search: "
                    "--name NAME"
                )

    def close(self) -> None:
        """Close the connections to a database; a journal has none."""
        engine = getattr(self._storage, "engine", None)
        if engine is not None:
            self._storage.remove_session()
            engine.dispose()

    def trials(self) -> list[StoredTrial]:
        """Return all trials by number."""
        with self._working():
            return [_stored(trial) for trial in self._study.get_trials(deepcopy=False)]

    def ask(self, space: SearchSpace, default_arch: str, first: Mapping[str, Value]) -> Claim | None:
        """Take a waiting trial or, if the number of trials allows it, a new one; None if there is neither.

        Its parameters are drawn from `space`; `first` holds those of the first trial as far as they are given. `default_arch` is the
        architecture if none is searched.
        """
        with self._working(), _quiet(), locked(self.folder):
            known = self._study.get_trials(deepcopy=False)
            is_waiting = any(trial.state.name == "WAITING" for trial in known)
            if not is_waiting and len(known) >= self.options.trials:
                return None
            if not known and first:
                self._study.enqueue_trial(dict(first))
            self._study.sampler = self._sampler(len(known))
            trial = self._study.ask()
            trial.set_user_attr(_WORKER, self._worker.to_dict())
        with self._working(), _quiet():
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
        with self._owned(claim) as now, _quiet():
            if epoch not in now.values:
                claim.trial.report(value, epoch)

    def should_prune(self, claim: Claim) -> bool:
        """Return True if the trial is worse at its latest epoch than the median of the complete trials at that epoch."""
        with self._working(), _quiet():
            return self.options.prune and claim.trial.should_prune()

    def beat(self, claim: Claim) -> None:
        """Store a sign of life of the trial's worker."""
        trial = claim.trial
        trial.set_user_attr(_BEAT, int(trial.user_attrs.get(_BEAT, 0)) + 1)

    def finish(self, claim: Claim, state: Literal["complete", "pruned", "failed"], value: float | None = None, reason: str = "") -> None:
        """End the trial in `state`, with the best `value` of a complete trial or the `reason` of a failure."""
        states = self._optuna.trial.TrialState
        with self._owned(claim), _quiet():
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
        with _quiet(), suppress(ValueError, RuntimeError, ZeroDivisionError):
            return dict(self._optuna.importance.get_param_importances(self._study))
        return {}

    def _requeue_dead(self, seen: StoredTrial) -> bool:
        with self._working(), locked(self.folder):
            raw = next(trial for trial in self._study.get_trials(deepcopy=False) if trial.number + 1 == seen.number)
            now = _stored(raw)
            if now.state != "running" or now.worker != seen.worker:
                return False  # another worker was faster
            trial_id = _id_of(raw)
            deaths = {"epoch": now.epoch, "count": now.deaths + 1}
            self._storage.set_trial_user_attr(trial_id, _DEATHS, deaths)
            if now.deaths + 1 >= MAX_DEATHS:
                reason = f"{MAX_DEATHS} workers ended after epoch {now.epoch}, perhaps because the memory was full"
                self._storage.set_trial_user_attr(trial_id, _REASON, reason)
                self._storage.set_trial_state_values(trial_id, self._optuna.trial.TrialState.FAIL)
                return False
            self._wait_again(trial_id, now.resumed + 1)
        return True

    def _wait_again(self, trial_id: int, resumed: int) -> None:
        self._storage.set_trial_user_attr(trial_id, _RESUMED, resumed)
        self._storage.set_trial_user_attr(trial_id, _WORKER, None)
        self._storage.set_trial_state_values(trial_id, self._optuna.trial.TrialState.WAITING)

    def _is_mine(self, trial: StoredTrial) -> bool:
        return trial.worker is not None and trial.worker.token == self._worker.token

    def _read(self, trial: optuna.Trial) -> StoredTrial:
        return _stored(self._storage.get_trial(_id_of(trial)))

    @contextmanager
    def _owned(self, claim: Claim) -> Generator[StoredTrial]:
        """Run the body with the stored trial of `claim`, which still belongs to this worker; raises `LostTrialError` otherwise."""
        with self._working():
            now = self._read(claim.trial)
            if now.state != "running" or not self._is_mine(now):
                raise LostTrialError
            try:
                yield now
            except self._optuna.exceptions.UpdateFinishedTrialError:
                raise LostTrialError from None

    @contextmanager
    def _opening(self) -> Generator[None]:
        """Raise `ConfigError` for an error of the storage in the body, which opens it, and close its connections."""
        try:
            yield
        except CnnkitError:
            self.close()
            raise
        except ImportError as error:
            raise MissingExtraError(
                f"--storage {self.shown_storage}: the driver of the database is not installed ({error}); "
                "for PostgreSQL type: pip install 'cnnkit[tune-postgresql]'"
            ) from None
        except Exception as error:
            self.close()
            if _is_damage(error):
                raise self._damaged(error) from None
            raise ConfigError(
                f"--storage {self.shown_storage}: cannot be opened: {_reason(error)}; check the URL and the server"
            ) from error

    @contextmanager
    def _working(self) -> Generator[None]:
        """Raise `TrainingStoppedError` for an error of the database in the body; a damaged journal is a `ModelFileError`."""
        try:
            yield
        except (OSError, self._optuna.exceptions.StorageInternalError) as error:
            raise TrainingStoppedError(
                f"the storage {self.shown_storage} failed: {_reason(error)}; the finished trials are kept; "
                "repair it, and type the command again to continue"
            ) from error
        except ValueError as error:
            if not _is_damage(error):
                raise
            raise self._damaged(error) from None
        except Exception as error:
            if not type(error).__module__.startswith("sqlalchemy"):
                raise
            raise TrainingStoppedError(
                f"the storage {self.shown_storage} failed: {_reason(error)}; the finished trials are kept; "
                "type the command again to continue"
            ) from error

    def _damaged(self, error: Exception) -> ModelFileError:
        return ModelFileError(
            f"{self.shown_storage}: the journal is damaged ({error}); restore it from a copy, or begin another search: --name NAME"
        )

    def _open_journal(self, file: Path) -> Any:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        lock = JournalFileOpenLock(str(file))
        lock.acquire()
        try:
            cut_torn_line(file)
        finally:
            lock.release()
        return JournalStorage(JournalFileBackend(str(file), lock_obj=lock))

    def _open_database(self, url: str) -> Any:
        from optuna.storages import RDBStorage
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import IntegrityError, ProgrammingError
        from sqlalchemy.pool import NullPool

        url = with_driver(url)
        if "@" in (make_url(url).host or ""):
            raise ConfigError(f"--storage {self.shown_storage}: a user name or a password with an @ is ambiguous; write %40 in its place")
        for _ in range(MAX_OPENINGS - 1):
            with suppress(IntegrityError, ProgrammingError):  # another worker has just made the same tables
                RDBStorage(url, engine_kwargs={"poolclass": NullPool})  # an attempt that fails leaves no connection open
                break
            time.sleep(OPENING_SECONDS)
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})

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


def import_optuna() -> Any:
    """Return the package Optuna, which writes no messages of its own; raises `MissingExtraError` if it is not installed."""
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("cnnkit tune needs the package optuna; type: pip install 'cnnkit[tune]'") from None
    optuna.logging.set_verbosity(logging.ERROR)
    return optuna


def cut_torn_line(file: Path) -> None:
    """Remove the last line of a journal if it has no end: a full disk cut it, and the next line would join it."""
    if not file.exists():
        return
    with file.open("r+b") as journal:
        content = journal.read()
        if content and not content.endswith(b"\n"):
            journal.truncate(content.rfind(b"\n") + 1)


def with_driver(url: str) -> str:
    """Return the URL of a database with the driver psycopg for PostgreSQL, unless it names a driver."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if separator and scheme in {"postgresql", "postgres"} else url


def shown_url(url: str) -> str:
    """Return the URL of a database without its password, for messages; one without a scheme is shown after its last @."""
    return hide_passwords(url) if "://" in url else f"***@{url.rpartition('@')[2]}" if "@" in url else url


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


def _is_damage(error: Exception) -> bool:
    """Return True for the errors of Optuna about a line of a journal that is no entry."""
    return isinstance(error, ValueError) and ("log format" in str(error) or type(error).__name__ == "JSONDecodeError")


def _reason(error: BaseException) -> str:
    """Return the innermost cause of an error in one line: that of the database, below the wrappers of its client."""
    while error.__cause__ is not None:
        error = error.__cause__
    return hide_passwords(str(error).strip().partition("\n")[0]) or type(error).__name__


@contextmanager
def _quiet() -> Generator[None]:
    """Show no warning of Optuna in the body: they tell of functions that may change, which the version in pyproject.toml settles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
