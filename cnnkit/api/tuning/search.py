"""The command ``tune``: trials one after the other in this process, and beside it in any other with the same command.

The loop takes a trial, trains it and stores its result. Before each trial it lets the trials of dead workers wait again. An
interruption does the same with the trial in progress.
"""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnnkit.api.training.job import TrainingJob
from cnnkit.api.tuning.space import Layers, baseline
from cnnkit.api.tuning.trial import TrialFailedError, finish, open_run, train
from cnnkit.config.search import DEFAULT_SAMPLER, Sampler
from cnnkit.config.settings import TrainConfig
from cnnkit.data.source import Source
from cnnkit.engine.early_stopping import LOWER_IS_BETTER
from cnnkit.errors import CnnkitError, TrainingStoppedError
from cnnkit.run_dir import runs_folder
from cnnkit.run_dir.record import RecordedTrial
from cnnkit.tuning.space import SearchSpace
from cnnkit.tuning.study import Claim, LostTrialError, Study, StudyOptions
from cnnkit.tuning.trials import Event, SearchNews, StoredTrial
from cnnkit.tuning.watch import beating

FOLDER_NAME = "tune"  # below the folder of the runs
POLL_SECONDS = 1.0  # between two looks at the trials of other workers
MAX_FIRST_FAILURES = 3  # trials that fail before any has a result: the settings of all of them are wrong
# Settings that may differ between the machines of a search: they change neither the images nor the measure.
_OF_MACHINE = {"data": {"data", "split_file", "cache", "workers", "download"}, "run": {"out", "device", "save_every", "log"}}


class Search:
    """A search named `name` over `space`, with the settings of `layers` below those of each trial.

    `folder` holds the journal and the results. `source` has the images if they are in memory.

    Raises `ConfigError` if a search of that name has another space or other settings.
    """

    def __init__(
        self,
        layers: Layers,
        space: SearchSpace,
        name: str,
        *,
        trials: int,
        storage: str | None = None,
        sampler: Sampler = DEFAULT_SAMPLER,
        prune: bool = True,
        source: Source | None = None,
    ) -> None:
        self.layers, self.space, self.name, self._source = layers, space, name, source
        self.config: TrainConfig = layers.config()
        self.monitor = self.config.stop.monitor
        self.runs = self.config.run.out or runs_folder()
        self.folder = self.runs / FOLDER_NAME / name
        options = StudyOptions(
            maximize=self.monitor not in LOWER_IS_BETTER,
            trials=trials,
            epochs=self.config.optim.epochs,
            seed=self.config.run.seed,
            sampler=sampler,
            prune=prune,
        )
        self.study = Study(self.folder, name, options, storage)
        try:
            self.id = self.study.agree(self._identity())
        except BaseException:
            self.study.storage.close()
            raise
        self._first = baseline(space, self.config)

    def news(self, seconds: float = 0.0, clock: Callable[[], float] = time.monotonic) -> Iterator[SearchNews]:
        """Train until every trial has ended; yield every step. With `seconds` no trial begins after that time.

        The trials of other workers are awaited, and continued if their workers end. Raises `TrainingStoppedError` if the first trials
        of this call all fail, and for a fault of the machine; the trial in progress then waits for the same command.
        """
        end = clock() + seconds if seconds else None
        failures: list[str] = []
        while True:
            for trial in self.study.requeue_dead():
                yield self._now("requeued", trial.number)
            has_time = end is None or clock() < end
            claim = self.study.ask(self.space, self.config.model.arch, self._first) if has_time else None
            if claim is not None:
                yield from self._train(claim)
                self._stop_if_all_fail(claim, failures)
                continue
            trials = self.study.trials()
            if not has_time or all(trial.has_ended for trial in trials):
                return
            yield SearchNews("waiting", tuple(trials), maximize=self.study.options.maximize)
            time.sleep(POLL_SECONDS)

    def agree_on_images(self, job: TrainingJob) -> None:
        """Compare the images of `job` with those of the first trial; raises `DataError` if they differ."""
        self.study.agree_on_images(job.header.training["data"]["sha256"])

    def config_of(self, trial: StoredTrial) -> TrainConfig:
        """Return the settings of a trial, as its run has them or, without the run, as its parameters give them."""
        options = self.space.options_of(str(trial.params.get("arch", self.config.model.arch)))
        settings = {name: value for name, value in trial.params.items() if name in self.space.settings}
        return self.layers.config(settings, {name: trial.params[name] for name in options if name in trial.params})

    def _train(self, claim: Claim) -> Iterator[SearchNews]:
        """Train the trial of `claim` to its end; a trial that is left or interrupted waits again."""
        gc.collect()  # the tensors of an ended or failed training stand in reference cycles, and this one needs their memory
        with self._requeued_if_left(claim), suppress(LostTrialError), beating(lambda: self.study.beat(claim)):
            try:
                trial = RecordedTrial(search=self.name, id=self.id, number=claim.number)
                opened = open_run(claim, self._settings(claim), trial, self.runs, self._source)
                job = opened.job
                if job is not None:
                    self.agree_on_images(job)
                self.study.note_run(claim, opened.run.path)
                yield self._now("begun" if claim.is_new else "resumed", claim.number, note=opened.note)
                if job is not None:
                    epochs = None if job.optim.budget else job.optim.epochs
                    for epoch in train(job, claim, self.study):
                        yield self._now("epoch", claim.number, epoch=epoch.epoch, epochs=epochs)
                finish(opened.run, claim, self.study)
            except TrialFailedError as error:
                self.study.finish(claim, "failed", reason=str(error))
        now = self._now("ended", claim.number)
        yield now if now.trial and now.trial.has_ended else replace(now, event="requeued")

    def _settings(self, claim: Claim) -> TrainConfig:
        try:
            return self.config_of(claim.stored)
        except CnnkitError as error:  # settings that are each right and do not go together
            raise TrialFailedError(str(error)) from None

    @contextmanager
    def _requeued_if_left(self, claim: Claim) -> Generator[None]:
        try:
            yield
        except BaseException:
            with suppress(Exception):  # the storage may be the fault; the trial is then found as that of a dead worker
                self.study.requeue(claim)
            raise

    def _stop_if_all_fail(self, claim: Claim, failures: list[str]) -> None:
        """Raise `TrainingStoppedError` if the first trials of this call have failed and no trial has a result."""
        trials = self.study.trials()
        trial = trials[claim.number - 1]
        if trial.state == "failed":
            failures.append(trial.reason)
        if len(failures) >= MAX_FIRST_FAILURES and not any(trial.state in {"complete", "pruned"} for trial in trials):
            raise TrainingStoppedError(
                f"the first {len(failures)} trials failed, the last one with: {failures[-1]}; "
                "change the space or the settings, and begin another search: --name NAME"
            )

    def _now(self, event: Event, number: int, **rest: Any) -> SearchNews:
        return SearchNews(event, tuple(self.study.trials()), number, maximize=self.study.options.maximize, **rest)

    def _identity(self) -> Mapping[str, Any]:
        """Return the facts in which all workers of a search must agree."""
        settings = self.config.model_dump(mode="json", exclude={"larger"})
        flat = {
            name: value
            for section, values in settings.items()
            for name, value in (values.items() if isinstance(values, dict) else [(section, values)])
            if name not in _OF_MACHINE.get(section, ())
        }
        return {"id": uuid.uuid4().hex, "space": self.space.to_dict(), "settings": flat}


def default_name(config: TrainConfig) -> str:
    """Return the name of a search without ``--name``: the architecture and the data, as in ``custom-cnn-images``."""
    words = f"{config.model.arch}-{Path(config.data.data).name or config.data.data}"
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in words).strip(".-") or "search"
