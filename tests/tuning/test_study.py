from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cnnkit.errors import ConfigError, DataError, ModelFileError
from cnnkit.tuning.space import Choices, Range, SearchSpace
from cnnkit.tuning.storage import JOURNAL_NAME
from cnnkit.tuning.study import LostTrialError, Study, StudyOptions
from cnnkit.tuning.watch import MAX_DEATHS

pytest.importorskip("optuna")
OPTIONS = StudyOptions(maximize=False, trials=4, epochs=4)
SPACE = SearchSpace(
    {
        "lr": Range(1e-4, 1e-1, log=True),
        "arch": Choices(("a", "b")),
        "width": Range(8, 16, is_integer=True, step=4),
        "bias": Choices((True, False)),
    },
    {"a": frozenset({"width"}), "b": frozenset({"bias"})},
)
FOLDER = Path("runs/tune/x")


def open_study(**changes) -> Study:
    return Study(FOLDER, "x", replace(OPTIONS, **changes))


def ask(study: Study, **first) -> Any:
    return study.ask(SPACE, "a", first)


def mark_dead(study: Study, monkeypatch) -> None:
    """Let every trial of another worker look dead."""
    monkeypatch.setattr(study._watch, "is_dead", lambda _: True)


def test_the_first_trial_has_the_given_values_and_each_trial_the_options_of_its_architecture():
    study = open_study()
    first = ask(study, lr=0.002, arch="a", width=8)
    assert dict(first.stored.params) == {"arch": "a", "lr": 0.002, "width": 8}
    for claim in (ask(study), ask(study), ask(study)):
        assert set(claim.stored.params) == {"lr", "arch", "width" if claim.stored.params["arch"] == "a" else "bias"}
        assert claim.stored.params["lr"] in SPACE.domains["lr"]
    assert ask(study) is None, "four trials in all"
    assert len({trial.params["lr"] for trial in study.trials()}) == 4
    assert [trial.number for trial in study.trials()] == [1, 2, 3, 4]


def test_two_workers_share_the_trials():
    one, two = open_study(), open_study()
    assert [ask(one).number, ask(two).number, ask(one).number, ask(two).number] == [1, 2, 3, 4]
    assert ask(one) is ask(two) is None
    claim_seeds = [trial.params["lr"] for trial in one.trials()]
    assert len(set(claim_seeds)) == 4, "workers of one seed draw different trials"


def test_a_trial_ends_with_its_value_its_reason_or_pruned():
    study = open_study()
    complete, failed, pruned = ask(study), ask(study), ask(study)
    study.note_run(complete, Path("runs/001-a"))
    study.report(complete, 1, 0.7)
    study.report(complete, 1, 0.9)  # a resumed run repeats the epoch; the first value stays
    study.finish(complete, "complete", 0.7)
    study.finish(failed, "failed", reason="the loss became nan")
    study.report(pruned, 1, 3.0)
    study.finish(pruned, "pruned")
    one, two, three = open_study().trials()
    assert (one.state, one.value, one.run, dict(one.values)) == ("complete", 0.7, "runs/001-a", {1: 0.7})
    assert (two.state, two.value, two.reason) == ("failed", None, "the loss became nan")
    assert (three.state, three.value) == ("pruned", 3.0)


def test_a_trial_worse_than_the_median_is_pruned_after_the_first_epochs():
    study = open_study(trials=9, epochs=8)
    for value in (0.1, 0.2, 0.3):
        claim = ask(study)
        for epoch in range(1, 5):
            study.report(claim, epoch, value)
        study.finish(claim, "complete", value)
    bad = ask(study)
    found = []
    for epoch in range(1, 5):
        study.report(bad, epoch, 0.9)
        found.append(study.should_prune(bad))
    assert found == [False, False, True, True]
    unpruned = open_study(trials=9, epochs=8, prune=False)
    kept = ask(unpruned)
    unpruned.report(kept, 4, 0.9)
    assert not unpruned.should_prune(kept)


def test_an_interrupted_trial_waits_and_keeps_its_parameters_and_run():
    study = open_study()
    claim = ask(study)
    study.note_run(claim, Path("runs/001-a"))
    study.report(claim, 1, 0.5)
    study.requeue(claim)
    assert study.trials()[0].state == "waiting"
    again = ask(open_study(trials=1))
    assert again.number == 1
    assert not again.is_new
    assert (again.stored.params, again.stored.run, dict(again.stored.values)) == (claim.stored.params, "runs/001-a", {1: 0.5})
    with pytest.raises(LostTrialError):
        study.report(claim, 2, 0.4)


def test_a_dead_workers_trial_waits_and_the_worker_that_wakes_up_leaves_it(monkeypatch):
    sleeping, other = open_study(), open_study()
    claim = ask(sleeping)
    sleeping.beat(claim)
    assert other.requeue_dead() == [], "its process is this one, which lives"
    mark_dead(other, monkeypatch)
    assert [trial.number for trial in other.requeue_dead()] == [1]
    assert other.requeue_dead() == []
    taken = ask(other)
    assert taken.number == 1
    assert taken.stored.resumed == 1
    for lost in (lambda: sleeping.report(claim, 1, 0.5), lambda: sleeping.finish(claim, "complete", 0.5)):
        with pytest.raises(LostTrialError):
            lost()
    sleeping.requeue(claim)  # does not take it away
    other.report(taken, 1, 0.6)
    other.finish(taken, "complete", 0.6)
    assert [(trial.state, trial.value) for trial in sleeping.trials()] == [("complete", 0.6)]


def test_a_trial_whose_workers_die_in_one_epoch_fails(monkeypatch):
    states = []
    for number in range(MAX_DEATHS + 1):
        study, finder = open_study(), open_study()
        claim = ask(study)
        if number == 1:
            study.report(claim, 1, 0.5)  # progress: the deaths count from here
        mark_dead(finder, monkeypatch)
        finder.requeue_dead()
        states.append(finder.trials()[0].state)
    assert states == ["waiting"] * MAX_DEATHS + ["failed"]
    assert f"{MAX_DEATHS} workers ended after epoch 1" in open_study().trials()[0].reason


def test_workers_of_a_search_agree():
    identity = {"id": "1", "space": {"lr": "1..2"}, "settings": {"epochs": 4, "arch": "a"}}
    assert open_study().agree(identity) == "1"
    assert open_study().agree(identity | {"id": "2"}) == "1", "the first worker gives the id"
    with pytest.raises(ConfigError, match=r"the search 'x' was begun with epochs=4, now epochs=5; type the flags .* or .*--name NAME"):
        open_study().agree(identity | {"settings": {"epochs": 5, "arch": "a"}})
    with pytest.raises(ConfigError, match=r"begun with lr=1..2, now lr=\(not searched\)"):
        open_study().agree(identity | {"space": {"wd": "1..2"}})
    with pytest.raises(ConfigError, match="begun with another --monitor"):
        open_study(maximize=True)
    study = open_study()
    study.agree_on_images("abc")
    study.agree_on_images("abc")
    with pytest.raises(DataError, match="begun with other images or another split"):
        open_study().agree_on_images("abd")


def test_importances_need_complete_trials():
    study = open_study(trials=12)
    assert study.importances() == {}
    for number in range(8):
        claim: Any = study.ask(SearchSpace({"lr": Range(0.0, 1.0), "unused": Range(0.0, 1.0)}), "a", {})
        assert study.importances() == {} or number > 1
        study.finish(claim, "complete", claim.stored.params["lr"] ** 2)
    found = study.importances()
    assert set(found) == {"lr", "unused"}
    assert found["lr"] > found["unused"]


def test_a_journal_that_a_full_disk_cut_is_repaired_and_a_damaged_one_refused():
    study = open_study()
    ask(study)
    file = FOLDER / JOURNAL_NAME
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code": 5, "wor')
    again = open_study()
    assert file.read_bytes().startswith(whole)
    assert b'"wor{' not in file.read_bytes()
    assert len(again.trials()) == 1
    lines = whole.splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], b"damage\n", *lines[1:]]))
    with pytest.raises(ModelFileError, match=r"search\.journal: the journal is damaged .* or begin another search: --name NAME"):
        open_study().trials()
