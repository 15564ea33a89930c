from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cnnkit.api.tuning.trial import TrialFailedError, failing, find_run_of, finish, open_run, report_history
from cnnkit.errors import ConfigError, DataError, ModelFileError, TrainingStoppedError
from cnnkit.run_dir import RunDir
from cnnkit.run_dir.owner import LOCK_FILE
from cnnkit.run_dir.record import RecordedTrial
from cnnkit.tuning.trials import StoredTrial
from cnnkit.tuning.worker import Worker

TRIAL = RecordedTrial(search="x", id="1", number=1)


class Finished(list[Any]):
    def finish(self, _, state, value=None, reason=""):
        self.append((state, value, reason))


def claim(**fields) -> Any:
    stored = StoredTrial(1, "running", **fields)
    return SimpleNamespace(number=1, stored=stored, is_new=not stored.run and not stored.resumed)


def stopped_with(cause: BaseException) -> TrainingStoppedError:
    error = TrainingStoppedError("stopped\nthe way on")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConfigError("--set width=99: too large"), "--set width=99: too large"),
        (TrainingStoppedError("the loss became nan\nmore"), "the loss became nan"),
        (stopped_with(MemoryError()), "stopped"),
        (ValueError("shapes differ"), "ValueError: shapes differ"),
    ],
)
def test_the_settings_of_a_trial_fail_the_trial(error, reason):
    with pytest.raises(TrialFailedError) as failed, failing():
        raise error
    assert str(failed.value) == reason


@pytest.mark.parametrize(
    "error", [stopped_with(OSError(28, "No space left")), stopped_with(DataError("changed")), DataError("gone"), OSError(5, "")]
)
def test_a_fault_of_the_machine_and_changed_images_concern_every_trial(error):
    with pytest.raises(type(error)) as passed, failing():
        raise error
    assert passed.value is error


def test_a_new_trial_is_a_run_that_names_its_search(trainings, make_record):
    config = make_record().config
    opened = open_run(claim(), config, TRIAL, Path("runs"))
    assert opened.run.read_record().trial == TRIAL
    assert (opened.note, trainings.resumed) == ("", [])


def test_the_run_of_a_dead_worker_is_found_by_its_record(trainings, make_record):
    config = make_record().config
    begun = open_run(claim(), config, TRIAL, Path("runs")).run
    other = open_run(claim(), config, TRIAL.model_copy(update={"id": "2"}), Path("runs")).run
    assert find_run_of(TRIAL, Path("runs"), "") == begun, "the worker died before it stored the path"
    assert find_run_of(TRIAL, Path("runs"), str(other.path)) is None, "a run of another search"
    assert open_run(claim(resumed=1), config, TRIAL, Path("runs")).run == begun
    assert trainings.resumed == [begun.path]


def test_a_run_that_cannot_be_resumed_starts_again_with_a_note(trainings, make_record, monkeypatch):
    config = make_record().config
    begun = open_run(claim(), config, TRIAL, Path("runs")).run

    def damaged(path):
        raise ModelFileError("state.pt: damaged")

    monkeypatch.setattr("cnnkit.api.tuning.trial.resume", damaged)
    again = open_run(claim(resumed=1, run=str(begun.path)), config, TRIAL, Path("runs"))
    assert again.run != begun
    assert again.note == f"trial 1 starts again, because {begun.path} cannot be resumed: state.pt: damaged"
    gone = open_run(claim(resumed=1, run="/elsewhere/runs/001-custom-cnn"), config, TRIAL, Path("runs"))
    assert gone.note == "trial 1 starts again, because its run /elsewhere/runs/001-custom-cnn is not on this machine"


def test_the_lock_of_a_dead_worker_of_another_machine_is_removed(trainings, make_record):
    begun = open_run(claim(), make_record().config, TRIAL, Path("runs")).run
    here = Worker.this_process()
    dead = replace(here, owner=here.owner.model_copy(update={"host": "another-machine"}))
    (begun.path / LOCK_FILE).write_text(dead.owner.model_dump_json())
    opened = open_run(claim(resumed=1, run=str(begun.path), worker=dead), make_record().config, TRIAL, Path("runs"))
    assert opened.note == ""
    assert not (begun.path / LOCK_FILE).exists()


@pytest.mark.parametrize(
    ("status", "best", "expected"),
    [
        ("finished", 0.5, ("complete", 0.5, "")),
        ("pruned", 0.5, ("pruned", None, "")),
        ("failed", None, ("failed", None, "no epoch had a finite val_loss")),
    ],
)
def test_a_trial_ends_as_its_run(old_run, make_record, status, best, expected, tmp_path):
    result = {**make_record().result.model_dump(), "best_value": best}
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.write_record(make_record(status=status, result=result))
    study: Any = Finished()
    finish(run, claim(), study)
    assert study == [expected]


def test_epochs_that_a_dead_worker_saved_are_reported(make_row):
    rows = [make_row(epoch=1, val_loss=0.5), make_row(epoch=2, val_loss=float("nan"), is_best=False), make_row(epoch=3, val_loss=0.4)]
    job: Any = SimpleNamespace(
        config=SimpleNamespace(stop=SimpleNamespace(monitor="val_loss")), run=SimpleNamespace(read_history=lambda: rows)
    )
    reported = []
    study: Any = SimpleNamespace(report=lambda _, epoch, value: reported.append((epoch, value)))
    report_history(job, claim(), study)
    assert reported == [(1, 0.5), (3, 0.4)]
