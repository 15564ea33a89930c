from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cnnkit.api.inference.runs import DAMAGED, RunFacts, list_runs, run_facts, sort_runs
from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.proportion import wilson
from cnnkit.model.file import read_header
from cnnkit.run_dir import RunDir


def row(number: int, **facts: object) -> RunFacts:
    return RunFacts(Path(f"runs/{number:03d}-x"), "finished", **facts)  # pyright: ignore[reportArgumentType]


def numbers(rows: list[RunFacts]) -> list[int | None]:
    return [each.number for each in rows]


def test_the_facts_of_a_run_come_from_its_own_files(trained):
    found = run_facts(RunDir(trained.run))
    history = RunDir(trained.run).read_history()
    assert (found.status, found.arch, found.recipe, found.data) == ("finished", "custom-cnn", "default", str(trained.data))
    assert (found.epochs, found.problem, found.number) == (len(history), "", 1)
    assert found.best_epoch is not None
    best = history[found.best_epoch - 1]
    assert found.best_value == pytest.approx(best.val_loss)
    assert found.val_accuracy == wilson(round((best.val_accuracy or 0) * 9), 9)  # 9 images in val
    assert found.seconds == pytest.approx(sum(each.seconds for each in history))
    assert found.temperature == read_header(trained.run / "best.safetensors").temperature
    assert (found.test_accuracy, found.ece) == (None, None)
    assert found.began == (trained.run / "split.csv").stat().st_mtime


def test_a_damaged_run_is_a_row_with_its_problem_beside_the_others(trained):
    for number, content in ((2, "{"), (3, '{"status": "finished"}')):
        folder = trained.run.with_name(f"{number:03d}-bad")
        folder.mkdir()
        (folder / "config.json").write_text(content)
    trained.run.with_name("004-empty").mkdir()  # no run
    found = list_runs()
    assert numbers(found) == [3, 2, 1]
    assert [each.status for each in found] == [DAMAGED, DAMAGED, "finished"]
    assert "003-bad/config.json: " in found[0].problem
    assert "002-bad/config.json: not a JSON document" in found[1].problem
    assert (found[0].epochs, found[0].val_accuracy, found[0].arch) == (None, None, "")


def test_a_pattern_matches_name_architecture_data_or_recipe(trained):
    shutil.copytree(trained.run, trained.run.with_name("002-other"))
    assert numbers(list_runs("*OTHER")) == [2]
    for pattern in ("custom-CNN", "default", f"{trained.data.parent}*", "*"):
        assert numbers(list_runs(pattern)) == [2, 1]
    assert list_runs("custom") == []


def test_runs_are_listed_from_the_runs_folder_or_the_given_folder(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("CNNKIT_RUNS", str(tmp_path / "none"))
    assert list_runs() == []
    assert numbers(list_runs(folder=trained.run.parent)) == [1]


def test_the_highest_accuracy_comes_first_and_runs_without_accuracy_last():
    half, most = Estimate(0.5, 0.4, 0.6), Estimate(0.9, 0.8, 1.0)
    rows = [row(4), row(3, test_accuracy=half), row(2, val_accuracy=half), row(1, test_accuracy=most, val_accuracy=most)]
    assert numbers(sort_runs(rows, "test")) == [1, 3, 4, 2]
    assert numbers(sort_runs(rows, "val")) == [1, 2, 4, 3]
    assert numbers(sort_runs(rows, "new")) == [4, 3, 2, 1]


def test_the_longest_training_comes_first():
    assert numbers(sort_runs([row(3), row(2, seconds=5.0), row(1, seconds=70.0)], "time")) == [1, 2, 3]


def test_the_row_of_json_has_the_intervals():
    found = row(7, test_accuracy=Estimate(0.9, 0.8, 1.0), epochs=3).to_dict()
    assert (found["run"], found["number"], found["epochs"]) == ("runs/007-x", 7, 3)
    assert found["test_accuracy"] == {"value": 0.9, "low": 0.8, "high": 1.0}
    assert found["val_accuracy"] is None
    assert json.loads(json.dumps(found)) == found
