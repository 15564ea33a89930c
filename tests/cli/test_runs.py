from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cnnkit.files import fingerprint
from cnnkit.metrics.proportion import wilson
from cnnkit.run_dir import write_metrics


@pytest.fixture
def three_runs(trained, make_metrics):
    """Return run 001, which is finished, beside run 002, which is stopped, evaluated and of another architecture, and the damaged 003."""
    second = Path("runs/002-residual-cnn")
    shutil.copytree(trained.run, second)
    config = json.loads((second / "config.json").read_text())
    config["status"], config["arch"]["name"] = "stopped", "residual-cnn"
    (second / "config.json").write_text(json.dumps(config))
    test = second / "eval/test"
    scores = {"accuracy": {"value": 0.7, "low": 0.4, "high": 0.9}, "ece": {"value": 0.034, "low": 0.02, "high": 0.05}}
    write_metrics(test, make_metrics(n=9, model={"file": "best.safetensors", "sha256": fingerprint(second / "best.safetensors")}, **scores))
    Path("runs/003-custom-cnn").mkdir()
    Path("runs/003-custom-cnn/config.json").write_text("{")
    return trained


def test_the_runs_are_listed_newest_first_with_the_damaged_run(cli, three_runs):
    result = cli("runs")
    assert result.code == 0
    lines = result.out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["003-custom-cnn", "002-residual-cnn", "001-custom-cnn"]
    assert [line.split()[-1] for line in lines[2:]] == ["damaged", "stopped", "finished"]
    assert "70.0 [40.0, 90.0]" in lines[3]
    assert "damaged runs/003-custom-cnn/config.json: not a JSON document (Expecting" in result.err
    assert "columns not shown: ECE %, T" in result.err


def test_json_has_every_figure(cli, three_runs, read_rows):
    document = cli("runs", "--json").json()
    assert document["folder"] == "runs"
    damaged, stopped, finished = document["runs"]
    assert (damaged["status"], damaged["epochs"], damaged["run"]) == ("damaged", None, "runs/003-custom-cnn")
    assert (stopped["arch"], stopped["test_accuracy"]["high"], stopped["ece"]) == ("residual-cnn", 0.9, 0.034)
    assert (finished["number"], finished["recipe"], finished["test_accuracy"], finished["ece"]) == (1, "default", None, None)
    history = read_rows("runs/001-custom-cnn/history.csv")
    best = history[finished["best_epoch"] - 1]
    assert finished["epochs"] == len(history)
    assert finished["best_value"] == pytest.approx(float(best["val_loss"]))
    assert finished["seconds"] == pytest.approx(sum(float(row["seconds"]) for row in history))
    interval = wilson(round(float(best["val_accuracy"]) * 9), 9)  # 9 images in val
    assert finished["val_accuracy"] == interval.to_dict()
    assert finished["temperature"] > 0


def test_a_wide_terminal_shows_all_columns(cli, three_runs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    result = cli("runs")
    heads = ["run", "data", "recipe", "epochs", "val acc %", "test acc %", "ECE %", "T", "minutes", "began", "status"]
    assert result.out.split("\n")[0].split() == " ".join(heads).split()
    assert " 3.4 " in result.out
    assert "not shown" not in result.err


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        (("*residual*",), [2]),
        (("CUSTOM-cnn",), [1]),  # the architecture; of the damaged run only its name is known
        (("00[13]-*",), [3, 1]),
        (("--sort", "test"), [2, 3, 1]),
        (("--sort", "time", "00[12]*"), [2, 1]),
    ],
)
def test_a_pattern_restricts_and_sort_orders_the_runs(cli, three_runs, arguments, numbers):
    assert [row["number"] for row in cli("runs", *arguments, "--json").json()["runs"]] == numbers


def test_the_highest_accuracy_on_val_comes_first(cli, three_runs):
    rows = Path("runs/002-residual-cnn/history.csv").read_text().splitlines()
    head = rows[0].split(",")
    worse = [dict(zip(head, row.split(","), strict=True)) | {"val_accuracy": "0.25"} for row in rows[1:]]
    Path("runs/002-residual-cnn/history.csv").write_text("\n".join([rows[0], *(",".join(row.values()) for row in worse)]) + "\n")
    assert [row["number"] for row in cli("runs", "--sort", "val", "--json").json()["runs"]] == [1, 2, 3]


def test_without_a_run_the_output_has_the_train_command(cli, three_runs, monkeypatch, tmp_path):
    assert "no run under runs matches 'x*'" in cli("runs", "x*").out
    monkeypatch.setenv("CNNKIT_RUNS", str(tmp_path / "none"))
    result = cli("runs")
    assert result.code == 0
    assert result.out.startswith(f"no run under {tmp_path / 'none'}; train one: cnnkit train --data FOLDER")
    assert cli("runs", "--json").json()["runs"] == []


def test_a_training_without_an_epoch_is_a_row(cli, trained):
    for name in ("history.csv", "best.safetensors"):
        (trained.run / name).unlink()
    config = json.loads((trained.run / "config.json").read_text())
    config["status"] = "running"
    config["result"] |= {"epochs": 0, "best_epoch": 0, "best_value": None}
    (trained.run / "config.json").write_text(json.dumps(config))
    (row,) = cli("runs", "--json").json()["runs"]
    assert (row["status"], row["epochs"], row["best_epoch"], row["val_accuracy"], row["problem"]) == ("running", 0, None, None, "")


def test_the_path_of_a_run_or_of_a_folder_is_no_pattern_and_gets_the_command(cli, trained):
    assert f"no run under runs matches '{trained.run}'; for this run type: cnnkit info {trained.run}" in cli("runs", trained.run).out
    Path("my runs").mkdir()
    assert "for the runs of this folder type: CNNKIT_RUNS='my runs' cnnkit runs" in " ".join(cli("runs", "my runs").out.split())
    assert cli("runs", "nothing").out == "no run under runs matches 'nothing'\n"
