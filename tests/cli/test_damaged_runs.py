"""The commands on damaged, old and renamed runs: each shows a row or an error, never a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

RUN = Path("runs/001-custom-cnn")
EVALUATION = RUN / "eval/test"
Damage = Callable[[], None]

SAID_OF_RECORD = "runs/001-custom-cnn/config.json: "
SAID_OF_HISTORY = "runs/001-custom-cnn/history.csv: "
SAID_OF_METRICS = "runs/001-custom-cnn/eval/test/metrics.json: "


@pytest.fixture(scope="module")
def evaluated_once(trained_once, tmp_path_factory):
    """Return a folder whose only run is a copy of the small training with an evaluation."""
    from cnnkit.api import evaluate

    run = tmp_path_factory.mktemp("evaluated") / "runs" / RUN.name
    shutil.copytree(trained_once.run, run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNKIT_CACHE", str(trained_once.data.parent / "cache"))
        evaluate(run)
    return run


@pytest.fixture
def run(evaluated_once, trained_once, monkeypatch) -> Path:
    """Return the evaluated run ``runs/001-custom-cnn``; ``runs/002-other`` is a copy with another model.

    Both have no digests, as the runs of older versions: the values themselves are checked here, and the digests in tests/faults.
    """
    for place in (RUN, Path("runs/002-other")):
        shutil.copytree(evaluated_once, place)
        (place / "manifest.json").unlink()
    other = Path("runs/002-other/best.safetensors")
    with safe_open(other, "numpy") as file:
        header, tensors = json.loads(file.metadata()["cnnkit"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, other, {"cnnkit": json.dumps(header | {"proof": None})})
    monkeypatch.setenv("CNNKIT_CACHE", str(trained_once.data.parent / "cache"))
    return RUN


def edit(file: Path, change: Callable[[Any], object]) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def record(change: Callable[[Any], object]) -> Damage:
    return lambda: edit(RUN / "config.json", change)


def metrics(change: Callable[[Any], object]) -> Damage:
    return lambda: edit(EVALUATION / "metrics.json", change)


def history(change: Callable[[list[str]], list[str]]) -> Damage:
    file = RUN / "history.csv"
    return lambda: void(file.write_text("\n".join(change(file.read_text().splitlines()))))


def void(_: object) -> None:
    """Drop a value."""


RECORDS: dict[str, tuple[Damage, str]] = {
    "no runtime": (record(lambda document: document.pop("runtime")), "`runtime` is missing"),
    "no status": (record(lambda document: document.pop("status")), "`status` is missing"),
    "no classes": (record(lambda document: document.pop("classes")), "`classes` is missing"),
    "unknown key": (record(lambda document: document.update(surprise=1)), "`surprise` is unknown to this version of cnnkit"),
    "wrong type": (record(lambda document: document["result"].update(epochs="6")), '`result.epochs` (="6") must be a valid integer'),
    "newer": (record(lambda document: document.update(format=2)), "`format` (=2) is too new; this cnnkit reads formats up to 1"),
    "cut off": (lambda: void((RUN / "config.json").write_text('{"status"')), "not a JSON document"),
    "lost": ((RUN / "config.json").unlink, "cannot be read: No such file"),
}
HISTORIES: dict[str, tuple[Damage, str]] = {
    "damaged row": (history(lambda lines: [*lines[:2], lines[2].replace(",", ",x", 1), *lines[3:]]), "row 2, column step (='x"),
    "cut off": (history(lambda lines: [*lines[:-1], lines[-1][:9]]), "is missing, because the row ends early"),
    "no best epoch": (history(lambda lines: lines[:1]), ", the best epoch, is missing"),
    "lost": ((RUN / "history.csv").unlink, ", the best epoch, is missing"),
}
EVALUATIONS: dict[str, tuple[Damage, str]] = {
    "no accuracy": (metrics(lambda document: document.pop("accuracy")), "`accuracy` is missing"),
    "no model": (metrics(lambda document: document.pop("model")), "`model` is missing"),
    "unknown key": (metrics(lambda document: document.update(surprise=1)), "`surprise` is unknown to this version of cnnkit"),
    "newer": (metrics(lambda document: document.update(format=2)), "`format` (=2) is too new; this cnnkit reads formats up to 1"),
    "cut off": (lambda: void((EVALUATION / "metrics.json").write_text("{")), "not a JSON document"),
}
COMMANDS = {
    "eval": ("eval", "--model", RUN),
    "report": ("report", RUN),
    "resume": ("resume", RUN),
    "compare": ("compare", "runs/002-other", RUN),
    "report --compare": ("report", "--compare", "runs/002-other", RUN),
}


def check_row(cli, said: str) -> None:
    """Check that `cnnkit runs` marks the row and prints the problem `said`, and that `cnnkit info` prints the same."""
    result = cli("runs", "--json")
    assert result.code == 0
    other, damaged = result.json()["runs"]
    assert (other["status"], damaged["number"], damaged["status"]) == ("finished", 1, "damaged")
    assert said in damaged["problem"]
    shown = cli("runs")
    assert shown.code == 0
    assert shown.out.splitlines()[-1].split()[0] == "001-custom-cnn"
    assert f"damaged {damaged['problem']}" in shown.err
    told = cli("info", RUN, "--json")
    assert (told.code, told.json()["run"]["problem"]) == (0, damaged["problem"])
    assert cli("info", RUN).code == 0


def check_refused(cli, commands: tuple[str, ...], said: str) -> None:
    for name in commands:
        result = cli(*COMMANDS[name])
        assert result.code == 2, (name, result.out, result.err)
        assert result.err.count("error ") == 1
        assert said in result.err, name


@pytest.mark.parametrize("damage", RECORDS)
def test_a_damaged_record_is_a_marked_row_and_an_error(cli, run, damage):
    act, problem = RECORDS[damage]
    act()
    check_row(cli, SAID_OF_RECORD + problem)
    check_refused(cli, tuple(COMMANDS), SAID_OF_RECORD + problem)


@pytest.mark.parametrize("damage", HISTORIES)
def test_a_damaged_history_is_a_marked_row_and_an_error(cli, run, damage):
    act, problem = HISTORIES[damage]
    act()
    check_row(cli, problem)
    check_refused(cli, ("report", "report --compare"), problem)
    assert cli("eval", "--model", RUN).code == 0, "the history says nothing that an evaluation needs"


@pytest.mark.parametrize("damage", ["damaged row", "lost"])
def test_a_stopped_run_with_a_damaged_history_is_not_resumed(cli, run, damage):
    edit(RUN / "config.json", lambda document: document.update(status="stopped"))
    HISTORIES[damage][0]()
    check_refused(cli, ("resume",), SAID_OF_HISTORY)


def test_a_run_with_a_cut_off_last_row_can_be_resumed(cli, run):
    edit(RUN / "config.json", lambda document: document.update(status="running"))
    with (RUN / "history.csv").open("a") as file:
        file.write("7,70,0.")
    assert cli("runs", "--json").json()["runs"][1]["status"] == "damaged"
    assert cli("resume", RUN).code == 0
    assert cli("runs", "--json").json()["runs"][1]["status"] == "finished"


@pytest.mark.parametrize("damage", EVALUATIONS)
def test_a_damaged_evaluation_is_an_error_until_it_is_repeated(cli, run, damage):
    act, problem = EVALUATIONS[damage]
    act()
    check_row(cli, SAID_OF_METRICS + problem)
    check_refused(cli, ("report", "compare", "report --compare"), SAID_OF_METRICS + problem)
    if damage != "newer":
        assert "evaluate the model again: cnnkit eval --model runs/001-custom-cnn --split test" in cli(*COMMANDS["report"]).err
    assert cli("eval", "--model", RUN, "--split", "test").code == 0
    assert cli(*COMMANDS["report"]).code == 0


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (",ants,", ",moth,", "column true (='moth') is no class of config.json"),
        (",0.", ",x.", "column probability (='x."),
    ],
)
def test_damaged_predictions_are_an_error(cli, run, old, new, problem):
    file = EVALUATION / "predictions.csv"
    file.write_text(file.read_text().replace(old, new))
    check_refused(cli, ("report", "compare"), problem)
    assert "evaluate the model again: cnnkit eval" in cli(*COMMANDS["compare"]).err


def test_a_damaged_split_is_an_error(cli, run):
    file = RUN / "split.csv"
    file.write_text(file.read_text().replace("wasps,train", "moths,train"))
    check_refused(cli, ("report", "compare"), "column label (='moths') is no class of config.json")
    file.write_text(file.read_text().replace(",train,", ",,"))
    check_refused(cli, ("eval", "report", "compare"), "column split (='') must be train, val, test")


def test_a_run_of_the_oldest_format_is_read_by_every_command(cli, run):
    for file in (RUN / "config.json", EVALUATION / "metrics.json"):
        edit(file, lambda document: document.pop("format"))
    row = cli("runs", "--json").json()["runs"][1]
    assert (row["status"], row["problem"]) == ("finished", "")
    assert row["test_accuracy"] is not None
    for arguments in (("info", RUN), ("report", RUN), ("compare", "runs/002-other", RUN), ("report", "--compare", "runs/002-other", RUN)):
        result = cli(*arguments)
        assert result.code == 0, result.err
    assert "format" not in json.loads((EVALUATION / "metrics.json").read_text()), "nothing was evaluated again"
    edit(RUN / "config.json", lambda document: document.update(status="stopped"))
    assert cli("resume", RUN).code == 0
    assert cli("eval", "--model", RUN).code == 0
    assert [json.loads(file.read_text())["format"] for file in (RUN / "config.json", EVALUATION / "metrics.json")] == [1, 1]


def test_the_committed_run_of_the_oldest_format_is_a_row(cli, old_run):
    shutil.copytree(old_run, RUN)
    (row,) = cli("runs", "--json").json()["runs"]
    assert (row["status"], row["arch"], row["epochs"], row["best_epoch"]) == ("finished", "custom-cnn", 3, 3)
    assert row["val_accuracy"]["value"] == pytest.approx(41 / 44)
    assert row["test_accuracy"]["value"] == json.loads((EVALUATION / "metrics.json").read_text())["accuracy"]["value"]
    result = cli("info", RUN)
    assert (result.code, "no best.safetensors" in result.err) == (2, True)


def test_a_renamed_run_has_no_number_and_is_found(cli, run):
    shutil.rmtree("runs/002-other")
    run.rename("runs/my-model")
    (row,) = cli("runs", "--json").json()["runs"]
    assert (row["run"], row["number"], row["status"]) == ("runs/my-model", None, "finished")
    assert "my-model" in cli("runs", "my-*").out
    assert cli("info", "runs/my-model", "--json").json()["run"]["number"] is None
    for arguments in (("info",), ("eval",), ("report",), ("report", "runs/my-model")):
        result = cli(*arguments)
        assert result.code == 0, result.err
    assert "model runs/my-model/best.safetensors (the newest finished run)" in cli("eval", "--json").err


def test_eval_json_has_the_keys_of_the_file_with_its_format(cli, run):
    printed = cli("eval", "--model", RUN, "--json").json()
    stored = json.loads((EVALUATION / "metrics.json").read_text())
    assert printed["format"] == stored["format"] == 1
    assert stored.keys() - printed.keys() == {"model", "unreadable", "opened"}
    assert printed.keys() - stored.keys() == {"classes", "confusion"}
    assert {key: printed[key] for key in printed.keys() & stored.keys()} == {key: stored[key] for key in printed.keys() & stored.keys()}
