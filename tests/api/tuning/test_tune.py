from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnkit
from cnnkit.api.tuning.results import MAX_ROWS, SearchResult
from cnnkit.cli.app import main
from cnnkit.errors import CnnkitError, ConfigError, DataError, MissingExtraError, TrainingStoppedError
from cnnkit.run_dir import runs_in
from cnnkit.tuning.trials import StoredTrial

SMALL: dict[str, Any] = {"set": ("width=8", "blocks=1", "dense=16"), "image_size": 8, "precision": "fp32"}


@pytest.fixture(autouse=True)
def _optuna(monkeypatch):
    pytest.importorskip("optuna")


def search(**changes: Any) -> SearchResult:
    given: dict[str, Any] = {"search": ["lr=1e-3..1e-1:log", "width=8,16"], "trials": 4, "epochs": 3, **changes}
    return cnnkit.tune("digits", **given)


def test_a_search_returns_its_trials_and_the_best(trainings, capsys):
    result = search(prune=False)
    assert capsys.readouterr() == ("", ""), "a function prints nothing"
    assert [trial.state for trial in result.trials] == ["complete"] * 4
    best = result.best
    assert best is not None
    assert best.value == min(trial.value or 9.0 for trial in result.trials)
    assert repr(result).startswith(f"SearchResult('custom-cnn-digits', best of 4 trials: {best.number}, val_loss {best.value:.4f}, lr=")
    assert len(repr(result)) < 200
    document = result.to_dict()
    assert (document["best"]["number"], document["counts"], document["monitor"]) == (best.number, {"complete": 4}, "val_loss")
    assert result.files["recipe"] == Path("runs/tune/custom-cnn-digits/best.toml")
    assert len(search(trials=5, prune=False).trials) == 5, "the same call continues the search"
    assert len(trainings.began) == 5


def test_a_notebook_shows_the_best_trials_first(trainings, monkeypatch):
    monkeypatch.setattr("cnnkit.api.tuning.results.MAX_ROWS", 3)
    table = search(prune=False)._repr_html_()
    heads = [part.partition("</th>")[0] for part in table.split("<th>")[1:]]
    assert heads == ["trial", "state", "epoch", "val_loss", "lr", "width"]
    rows = [[cell.partition("</td>")[0] for cell in row.split("<td>")[1:]] for row in table.split("<tr>")[2:]]
    values = [float(row[3]) for row in rows]
    assert values == sorted(values)
    assert (len(rows), "and 1 more" in table) == (3, True)
    assert MAX_ROWS > 3


def test_a_search_for_the_largest_value_shows_it_first(trainings):
    result = search(trials=1)
    assert "<caption>custom-cnn-digits</caption>" in result._repr_html_()
    trials = [StoredTrial(1, "complete", value=0.5), StoredTrial(2, "complete", value=0.9), StoredTrial(3, "failed")]
    assert [trial.number for trial in sorted(trials, key=result._rank)] == [1, 2, 3]
    result.search.study.options = replace(result.search.study.options, maximize=True)
    assert [trial.number for trial in sorted(trials, key=result._rank)] == [2, 1, 3]


def test_without_a_complete_trial_there_is_no_best(trainings):
    def curve(config, epoch):
        raise TrainingStoppedError("the loss became nan")

    trainings.curve = curve
    result = search(trials=1)
    assert result.best is None
    assert repr(result) == "SearchResult('custom-cnn-digits', no complete trial of 1)"
    assert "failed" in result._repr_html_()


def test_a_mapping_gives_the_space_as_a_file_does(trainings):
    result = search(search={"lr": "1e-3..1e-1:log", "batch-size": (32, 64)}, trials=1)
    assert result.to_dict()["space"] == {"lr": "0.001..0.1:log", "batch_size": "32,64"}


def test_news_are_shown_if_asked(trainings, capsys):
    search(show=True, trials=2)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("trial")] == ["1/2", "2/2"]


def test_after_the_budget_no_trial_begins(trainings):
    assert search(budget=1e-9).trials == ()


def test_an_interruption_keeps_the_trial_for_the_same_call(trainings):
    def curve(config, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return 0.5

    trainings.curve = curve
    with pytest.raises(KeyboardInterrupt):
        search(trials=1)
    trainings.curve = lambda *_: 0.4
    assert dict(search(trials=1).trials[0].values) == {1: 0.5, 2: 0.4, 3: 0.4}


def test_images_in_memory_reach_every_trial(trainings):
    images, labels = np.zeros((6, 8, 8), np.uint8), ["a", "b"] * 3
    result = cnnkit.tune(images=images, labels=labels, search=["lr=1e-3,1e-2"], trials=2, epochs=1)
    assert result.search.name.startswith("custom-cnn-arrays-")
    assert [source.name[:7] for source in trainings.sources] == ["arrays-"] * 3


def test_an_ended_search_is_not_taken_for_one_on_other_images(trainings):
    search(trials=1, name="mine")
    trainings.images = "other"
    with pytest.raises(DataError, match=r"the search 'mine' was begun with other images or another split; .* another search: --name NAME"):
        search(trials=1, name="mine")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"trials": 0}, r"`--trials` \(=0\) must be a whole number of at least 1, such as 30"),
        ({"budget": "soon"}, r"`--budget` \(=soon\) must be a time such as 90s, 30m or 2h"),
        ({"name": "../x"}, r"`--name` \(=\.\./x\) must have letters"),
        ({"sampler": "tpee"}, r"`--sampler` \(=tpee\) must be one of tpe, random; did you mean 'tpe'"),
        ({"search": {"ler": "1..2"}}, "--search ler: neither a setting nor an option of custom-cnn; did you mean"),
        ({"search": {"width": [32]}}, r"--search: width \(=32\): a search needs at least two different values"),
        ({"learning_rate": 1.0}, "'learning_rate' is not a setting of a training"),
        ({"images": [], "labels": []}, "needs either data or both images and labels"),
    ],
)
def test_a_wrong_argument_is_refused_before_the_search(trainings, given, said):
    with pytest.raises(ConfigError, match=said):
        search(**given)
    assert not Path("runs/tune").exists()


def test_data_or_images_are_needed():
    with pytest.raises(ConfigError, match=r"tune\(\) needs either data or both images and labels"):
        cnnkit.tune()


def test_without_optuna_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cnnkit\[tune\]'"):
        search()


def test_another_search_of_the_name_is_refused(trainings):
    search(trials=1)
    with pytest.raises(ConfigError, match="was begun with epochs=3, now epochs=2"):
        search(epochs=2)


def test_images_that_no_trial_can_read_are_refused_before_the_search():
    with pytest.raises(CnnkitError, match="no-such-folder"):
        cnnkit.tune("no-such-folder", trials=1)
    assert not Path("runs/tune").exists()


@pytest.mark.slow
def test_a_search_of_python_is_the_search_of_the_command(capsys):
    flags = [word for option in SMALL["set"] for word in ("--set", option)]
    space = ("-s", "lr=1e-3..1e-2:log", "-s", "dropout=0..0.5")
    words = ["tune", "--data", "digits", "--epochs", "2", *flags, "--image-size", "8", "--precision", "fp32", *space]
    result = cnnkit.tune("digits", search=["lr=1e-3..1e-2:log", "dropout=0..0.5"], trials=2, epochs=2, **SMALL)
    assert result.best is not None
    assert main([*words, "--trials", "3", "--json"]) == 0, "the command continues the search"
    assert len(runs_in(Path("runs"))) == 3
    evaluation = cnnkit.evaluate(result.best.run)
    assert evaluation.report.n > 0


@pytest.mark.slow
def test_a_search_on_images_in_memory_finds_settings():
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = np.clip(random.normal(60 + 60 * labels[:, None, None], 40, (90, 12, 12)), 0, 255).astype(np.uint8)
    names = [f"level {label}" for label in labels]
    result = cnnkit.tune(images=images, labels=names, search=["lr=1e-3..1e-1:log"], trials=2, epochs=2, batch_size=16, **SMALL)
    assert result.best is not None
    assert cnnkit.evaluate(result.best.run, images=images, labels=names).report.n > 0
