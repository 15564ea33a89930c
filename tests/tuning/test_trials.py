from __future__ import annotations

import json

from cnnkit.tuning.trials import SearchNews, StoredTrial, best_of, counts


def trial(number, state, value=None, **fields):
    return StoredTrial(number, state, value=value, **fields)


def test_the_best_trial_is_complete_and_the_first_of_equals():
    trials = [trial(1, "pruned", 0.1), trial(2, "complete", 0.5), trial(3, "complete", 0.3), trial(4, "complete", 0.3), trial(5, "failed")]
    assert best_of(trials, maximize=False) == trials[2]
    assert best_of(trials, maximize=True) == trials[1]
    assert best_of([trials[0], trials[4]], maximize=True) is None


def test_news_name_the_best_trial_in_the_direction_of_the_metric():
    trials = (trial(1, "complete", 0.5), trial(2, "complete", 0.3), trial(3, "running"))
    assert SearchNews("begun", trials, 3).best is trials[1]
    assert SearchNews("begun", trials, 3, maximize=True).best is trials[0]
    assert [each.has_ended for each in trials] == [True, True, False]


def test_counts_name_the_states_that_occur():
    assert counts([trial(1, "waiting"), trial(2, "complete"), trial(3, "complete")]) == {"complete": 2, "waiting": 1}


def test_a_trial_is_a_json_object_with_its_latest_epoch():
    found = trial(1, "pruned", 0.4, values={1: 0.5, 2: 0.4}, params={"lr": 0.1, "norm": "batch"}, seconds=1.23456).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert (found["epochs"], found["seconds"], found["params"]) == (2, 1.235, {"lr": 0.1, "norm": "batch"})
