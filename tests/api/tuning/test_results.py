from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from cnnkit.api.tuning.results import COLUMNS, write_results
from cnnkit.config.recipe import resolve
from cnnkit.errors import TrainingStoppedError

FOLDER = Path("runs/tune/x")


def test_the_results_are_a_table_a_recipe_and_two_pictures(trainings, open_search, read_rows):
    search = open_search(("lr=1e-3..1e-1:log", "augment", "width=8,16"), trials=8, prune=False)
    list(search.news())
    result = write_results(search)
    assert set(result.files) == {"table", "recipe", "history", "importance"}
    assert all(path.is_file() and path.parent == FOLDER for path in result.files.values())
    rows = read_rows(FOLDER / "trials.csv")
    assert tuple(rows[0]) == (*COLUMNS, "lr", "augment", "width")
    assert [row["state"] for row in rows] == ["complete"] * 8
    best = result.best
    assert best is not None
    assert float(rows[best.number - 1]["lr"]) == best.params["lr"]
    assert sum(result.importances.values()) == pytest.approx(1)
    document = result.to_dict()
    assert document["best"] == document["trials"][best.number - 1]
    assert document["counts"] == {"complete": 8}


def test_the_recipe_gives_the_settings_of_the_best_trial_and_no_image_or_machine(trainings, open_search):
    search = open_search(("lr=1e-3..1e-1:log", "width=8,16"), given={"out": Path("runs"), "seed": 3, "set": ["dense=16"]})
    list(search.news())
    best = write_results(search).best
    assert best is not None
    text = (FOLDER / "best.toml").read_text()
    assert text.startswith(f"# trial {best.number} of the search x: val_loss ")
    assert set(tomllib.loads(text)) == {"recipe", "model", "optim", "augment", "stop"}
    config = resolve({}, file=FOLDER / "best.toml")
    assert config.optim.lr == best.params["lr"]
    assert config.optim.epochs == 3
    assert config.model.set == ("dense=16", f"width={best.params['width']}")


def test_without_a_complete_trial_there_is_a_table_alone(trainings, open_search):
    def curve(config, epoch):
        raise TrainingStoppedError("the loss became nan")

    trainings.curve = curve
    search = open_search(trials=1)
    list(search.news())
    result = write_results(search)
    assert (result.best, set(result.files)) == (None, {"table"})
    assert result.to_dict()["trials"][0]["reason"] == "the loss became nan"
