"""Comparisons of run directories with stored predictions; their model files are no models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import cnnkit
from cnnkit.api.evaluation import compare as compare_module
from cnnkit.api.evaluation import stored_evaluation
from cnnkit.errors import CnnkitError, ConfigError, DataError, ModelFileError

FIRST = [True] * 50 + [False] * 10
SECOND = [False] * 2 + [True] * 56 + [False] * 2


@pytest.fixture
def runs(answered_run) -> list[Path]:
    return [answered_run("001-a", FIRST), answered_run("002-b", SECOND)]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Refuse every evaluation; return the list of the model and the settings of each."""
    calls: list[tuple[object, ...]] = []

    def evaluate(model: Path, **settings: object) -> None:
        calls.append((model, settings))
        raise DataError("evaluation refused")

    monkeypatch.setattr(stored_evaluation, "evaluate", evaluate)
    monkeypatch.setattr(compare_module, "evaluate", evaluate)
    return calls


def test_stored_predictions_are_compared_without_an_evaluation(runs, refused) -> None:
    found = cnnkit.compare(runs)
    (pair,) = found.pairs
    assert (found.split, len(found.paths), found.notes) == ("test", 60, ())
    assert (pair.counts.only_first, pair.counts.only_second) == (2, 8)
    assert (pair.first, pair.second) == ("001-a", "002-b")
    assert [each.score.accuracy.value for each in found.contenders] == [50 / 60, 56 / 60]
    assert refused == []
    assert repr(found) == "Comparison(60 test images, 3 classes: 001-a, 002-b)"


def test_the_files_hold_the_comparison_and_the_changed_images(runs, read_rows) -> None:
    found = cnnkit.compare(runs)
    folder = runs[0] / "compare/test/002-b"
    assert found.folder == folder
    assert {path.name for path in folder.iterdir()} == {"compare.json", "compare.csv", "compare.png"}
    document = json.loads((folder / "compare.json").read_text())
    assert document == found.to_dict()
    (pair,) = document["pairs"]
    assert (pair["fixed"], pair["broken"], pair["both_right"], pair["both_wrong"]) == (8, 2, 48, 2)
    assert pair["verdict"].startswith("no significant difference: 002-b against 001-a +10.0 points")
    rows = read_rows(folder / "compare.csv")
    assert len(rows) == len(pair["changes"]) == 10
    assert rows[0] == {
        "first": "001-a",
        "second": "002-b",
        "path": "wasps/0050.jpg",
        "true": "wasps",
        "first_predicted": "ants",
        "first_probability": "0.6",
        "second_predicted": "wasps",
        "second_probability": "0.9",
        "change": "fixed",
    }
    assert [row["change"] for row in rows] == ["fixed"] * 8 + ["broken"] * 2


def test_the_files_go_to_the_folder_of_out(runs, tmp_path) -> None:
    assert cnnkit.compare(runs, out=tmp_path / "here").folder == tmp_path / "here"
    assert (tmp_path / "here/compare.json").is_file()
    assert not (runs[0] / "compare").exists()


def test_the_folder_of_many_runs_has_a_short_unique_name(answered_run) -> None:
    many = [answered_run(f"{number:03d}-{'x' * 50}", FIRST) for number in range(6)]
    folder = cnnkit.compare(many).folder
    assert folder is not None
    assert folder.name.startswith("5-others-")
    assert cnnkit.compare(many[:4]).folder != folder


@pytest.mark.parametrize("change", ["newer model", "missing column", "views", "missing row", "no folder"])
def test_a_stored_evaluation_that_does_not_fit_is_made_again(runs, refused, change) -> None:
    folder = runs[1] / "eval/test"
    metrics = json.loads((folder / "metrics.json").read_text())
    if change == "newer model":
        (runs[1] / "best.safetensors").write_text("trained again")
    elif change == "missing column":
        (folder / "predictions.csv").write_text("path,true\nants/0000.jpg,ants\n")
    elif change == "views":
        metrics["tta"] = {"views": 6, "mirror": "h", "shift_pixels": 1, "mean_of": "logits"}
    elif change == "missing row":
        rows = (folder / "predictions.csv").read_text().splitlines()
        (folder / "predictions.csv").write_text("\n".join(rows[:-1]))
    else:
        shutil.rmtree(folder)
    if folder.is_dir():
        (folder / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(DataError, match="evaluation refused"):
        cnnkit.compare(runs)
    ((model, settings),) = refused
    assert model == runs[1]
    assert settings["split"] == "test"


def test_an_image_unreadable_for_one_model_is_left_out_for_all(runs) -> None:
    folder = runs[1] / "eval/test"
    rows = (folder / "predictions.csv").read_text().splitlines()
    (folder / "predictions.csv").write_text("\n".join([rows[0], *rows[3:]]))
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["unreadable"] = [{"path": row.partition(",")[0], "error": "truncated"} for row in rows[1:3]]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    found = cnnkit.compare(runs)
    assert len(found.paths) == 58
    assert found.left_out == (("ants/0000.jpg", "truncated"), ("bees/0001.jpg", "truncated"))
    assert found.notes == ("left out: 2 unreadable images, such as ants/0000.jpg: truncated",)


def test_runs_with_different_splits_are_refused_without_overlap(answered_run) -> None:
    one = answered_run("001-a", FIRST, tested=range(60), trained=range(60, 200))
    other = answered_run("002-b", FIRST, tested=range(40, 100), trained=range(30))
    with pytest.raises(DataError, match=r"different test images: 001-a has 60, 002-b has 60; 20 are common to all.*--overlap") as caught:
        cnnkit.compare([one, other])
    assert "002-b was trained on 30 of the test images of 001-a" in str(caught.value)
    assert f"cnnkit train --split-file {one / 'split.csv'}" in str(caught.value)
    assert not (one / "compare").exists()
    found = cnnkit.compare([one, other], overlap=True)
    assert len(found.paths) == 20
    assert found.notes == ("compared on the 20 test images that are common to all: 001-a has 60, 002-b has 60",)


def test_runs_without_a_test_split_are_compared_on_val(answered_run) -> None:
    val = [answered_run(name, FIRST, split="val") for name in ("001-a", "002-b")]
    assert cnnkit.compare(val).split == "val"
    tested = answered_run("003-c", FIRST)
    with pytest.raises(DataError, match="003-c has a test split, 001-a has none; compare on a split that all runs have: --split val"):
        cnnkit.compare([val[0], tested])
    with pytest.raises(DataError, match="--split test: 001-a has no test images"):
        cnnkit.compare(val, split="test")


def test_different_classes_are_refused_with_both_lists(runs, answered_run) -> None:
    other = answered_run("003-c", FIRST, classes=("ants", "hornets"))
    with pytest.raises(DataError) as caught:
        cnnkit.compare([runs[0], other])
    assert str(caught.value).startswith(
        "001-a and 003-c have different classes: 001-a has ants, bees, wasps; 003-c has ants, hornets; compare runs"
    )


def test_a_long_list_of_classes_is_cut(answered_run) -> None:
    pair = [answered_run(name, FIRST, classes=[f"{name} {number}" for number in range(50)]) for name in ("001-a", "002-b")]
    with pytest.raises(DataError, match="001-a 9 and 40 more; 002-b has 002-b 0, "):
        cnnkit.compare(pair)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ([], "needs at least two runs, none is named: cnnkit compare RUN RUN"),
        (["runs/001-a"], "needs at least two runs, only runs/001-a is named"),
        (["runs/001-a", "runs/002-b", "runs/001-a"], "runs/001-a: one model, named 2 times; name each run once"),
        (["runs/001-a", "runs/001-a/best.safetensors"], "runs/001-a and runs/001-a/best.safetensors: one model, named 2 times"),
        (["runs/001-a", "lone.safetensors"], "lone.safetensors lies in no run directory.*--data FOLDER"),
    ],
)
def test_wrong_runs_are_refused_by_name(runs, named, message) -> None:
    Path("lone.safetensors").write_text("x")
    with pytest.raises(ConfigError, match=message):
        cnnkit.compare(named)


def test_a_missing_run_is_refused(runs) -> None:
    with pytest.raises(ModelFileError, match="runs/003-c: no such file or run directory"):
        cnnkit.compare([runs[0], "runs/003-c"])


def test_a_copy_of_a_run_is_the_same_model(runs) -> None:
    shutil.copytree(runs[0], "runs/009-copy")
    (pair,) = cnnkit.compare([runs[0], "runs/009-copy"]).pairs
    assert pair.same_model


def test_runs_of_equal_names_are_told_apart_by_longer_paths(runs) -> None:
    shutil.copytree("runs", "elsewhere")
    found = cnnkit.compare(["runs/001-a", "elsewhere/001-a", "runs/002-b"])
    assert [each.name for each in found.contenders] == ["runs/001-a", "elsewhere/001-a", "002-b"]
    assert found.folder is not None
    assert str(found.folder).startswith("runs/001-a/compare/test/elsewhere-001-a+002-b-")
    shutil.copytree("runs", "deep/elsewhere")
    found = cnnkit.compare(["elsewhere/001-a", "deep/elsewhere/001-a", Path("runs/001-a").resolve()])
    assert [each.name for each in found.contenders][1:] == ["deep/elsewhere/001-a", "runs/001-a"]


def test_models_of_one_name_in_other_folders_have_comparisons_apart(runs) -> None:
    for place in ("here", "there"):
        shutil.copytree(runs[1], f"{place}/002-b")
    folders = {cnnkit.compare([runs[0], other]).folder for other in (runs[1], "here/002-b", "there/002-b")}
    assert len(folders) == 3
    assert runs[0] / "compare/test/002-b" in folders


def test_an_unwritable_folder_is_refused_before_any_evaluation(runs, refused) -> None:
    Path("file").write_text("x")
    shutil.rmtree(runs[1] / "eval")
    with pytest.raises(CnnkitError, match="--out file: cannot write there"):
        cnnkit.compare(runs, out="file")
    assert refused == []
