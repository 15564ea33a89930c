from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

FIRST = [True] * 50 + [False] * 10
SECOND = [False] * 2 + [True] * 56 + [False] * 2
THIRD = [True] * 60


@pytest.fixture
def runs(answered_run) -> list[Path]:
    for name, right in (("001-custom-cnn", FIRST), ("002-residual-cnn", SECOND), ("003-timm-resnet18", THIRD)):
        answered_run(name, right, trained=range(60, 90))
    return [Path("runs") / name for name in ("001-custom-cnn", "002-residual-cnn", "003-timm-resnet18")]


def test_two_runs(cli, runs) -> None:
    result = cli("compare", *runs[:2])
    assert result.code == 0, result.err
    assert result.err == ""
    lines = result.out.splitlines()
    assert lines[0].rstrip() == "test: the same 60 images, 3 classes"
    assert "A → B   accuracy   +10.0 points" in result.out
    assert "verdict: no significant difference: 002-residual-cnn against 001-custom-cnn +10.0 points" in result.out
    assert "A → B: 8 fixed, 2 broken; both right on 48, both wrong on 2" in result.out
    assert "broken   ants/0000.jpg" in result.out
    assert lines[-3] == "files runs/001-custom-cnn/compare/test/002-residual-cnn"
    assert lines[-2].startswith("no significant difference: 002-residual-cnn against 001-custom-cnn +10.0 points")
    assert lines[-1] == "next: cnnkit report --compare runs/001-custom-cnn runs/002-residual-cnn"


@pytest.mark.parametrize("columns", ["80", "140"])
def test_three_runs_fit_the_terminal(cli, runs, monkeypatch, columns) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    result = cli("compare", *runs)
    assert result.code == 0, result.err
    table = result.out.partition("verdict:")[0]
    assert "…" not in table
    assert all(head in table for head in ("change", "95 % interval", "p (Holm)", "fixed", "broken"))
    assert result.out.count("(Holm, 3 pairs)") == 3
    assert "003-timm-resnet18 is better than 001-custom-cnn" in " ".join(result.out.split())


def test_json_equals_the_file(cli, runs) -> None:
    result = cli("compare", *runs, "--json")
    document = result.json()
    folder = runs[0] / "compare/test/002-residual-cnn+003-timm-resnet18"
    assert json.loads((folder / "compare.json").read_text()) == document
    assert (document["n"], len(document["runs"]), len(document["pairs"])) == (60, 3, 3)
    assert document["runs"][0]["accuracy"]["value"] == pytest.approx(50 / 60)
    assert document["pairs"][1]["better"] == "003-timm-resnet18"


def test_every_number_of_the_tables_is_in_the_file(cli, runs) -> None:
    document = cli("compare", runs[0], runs[2], "--json").json()
    shown = cli("compare", runs[0], runs[2]).out
    (pair,) = document["pairs"]
    for metric in ("accuracy", "macro_f1"):
        assert f"[{100 * pair[metric]['low']:+.1f}, {100 * pair[metric]['high']:+.1f}]" in shown
    assert f"[{pair['loss']['low']:+.3f}, {pair['loss']['high']:+.3f}]" in shown
    assert f"{pair['p_corrected']:.2g}" in shown
    assert pair["verdict"] in " ".join(shown.split())


def test_different_test_images_are_an_error_without_overlap(cli, runs, answered_run) -> None:
    answered_run("004-other", FIRST, tested=range(30, 90))
    result = cli("compare", runs[0], "runs/004-other")
    assert (result.code, result.out) == (2, "")
    assert "30 are common to all: compare on those with --overlap" in result.err
    overlap = cli("compare", runs[0], "runs/004-other", "--overlap")
    assert overlap.code == 0, overlap.err
    assert "compared on the 30 test images that are common to all" in overlap.err
    assert "the same 30 images" in overlap.out


def test_a_comparison_of_one_run_is_an_error(cli, runs) -> None:
    result = cli("compare", runs[0])
    assert result.code == 2
    assert "a comparison needs at least two runs" in result.err
    assert cli("compare").code == 2


def test_a_model_without_an_evaluation_is_evaluated_once(cli, trained) -> None:
    copy = Path("runs/002-copy")
    shutil.copytree(trained.run, copy)
    assert cli("eval").code == 0  # takes the newest, which is the copy
    result = cli("compare", trained.run, copy)
    assert result.code == 0, result.err
    text = " ".join(result.err.split())
    assert "001-custom-cnn: evaluated just now on test, now opened 1 time: the run had no evaluation of this model" in text
    assert "002-copy: evaluated" not in text
    assert "verdict: 002-copy and 001-custom-cnn are identical: their model files are equal" in result.out
    assert cli("compare", trained.run, copy).err == ""
    assert json.loads((trained.run / "eval/opened.json").read_text()) == {"test": 1}


@pytest.mark.slow
def test_a_run_and_its_exported_file(cli, trained, trained_export) -> None:
    result = cli("compare", trained.run, trained_export, "--json")
    assert result.code == 0, result.err
    document = result.json()
    assert [run["name"] for run in document["runs"]] == ["001-custom-cnn", "001-custom-cnn/export/model.onnx"]
    both = "001-custom-cnn/export/model.onnx and 001-custom-cnn are"
    verdicts = (f"no significant difference: {both} right", f"{both} identical on these 9 images")  # bit-equal on some processors
    assert document["pairs"][0]["verdict"].startswith(verdicts)
    assert (trained.run / "eval/test-model.onnx/predictions.csv").is_file()
    assert cli("compare", trained.run, trained_export).err == ""


def test_a_model_file_without_a_run_is_compared_on_given_data(cli, trained, image_folder, read_rows) -> None:
    lone = shutil.copy(trained.run / "best.safetensors", "lone.safetensors")
    fresh = image_folder(images=5, folder="fresh", seed=9)
    learned = next(row for row in read_rows(trained.run / "split.csv") if row["split"] == "train" and row["label"] == "ants")
    shutil.copy(trained.data / learned["path"], fresh / "ants/renamed.jpg")
    result = cli("compare", trained.run, lone, "--data", fresh, "--json")
    assert result.code == 0, result.err
    document = result.json()
    assert (document["n"], document["split"], document["pairs"][0]["same_model"]) == (15, "all", True)
    assert document["left_out"] == [{"path": "ants/renamed.jpg", "reason": "a copy is in the train split of 001-custom-cnn"}]
    notes = " ".join(document["notes"])
    assert "001-custom-cnn: 1 of 16 images were used to train 001-custom-cnn: 1 is in its train split; they are left out" in notes
    assert notes.count("lies in no run directory, so it cannot be checked whether the model was trained on these images") == 1
    assert "compared on the 15 images common to all: 001-custom-cnn has 15, lone.safetensors has 16" in notes
    (folder,) = (trained.run / "compare").glob("fresh-all-*/lone.safetensors-*")
    assert json.loads((folder / "compare.json").read_text()) == document
    included = cli("compare", trained.run, lone, "--data", fresh, "--include-trained", "--json").json()
    assert (included["n"], included["left_out"]) == (16, [])
    assert json.loads((folder / "compare.json").read_text()) == document, "another comparison has a folder of its own"


def test_a_comparison_on_the_training_data_is_one_on_test(cli, trained) -> None:
    lone = shutil.copy(trained.run / "best.safetensors", "lone.safetensors")
    document = cli("compare", trained.run, lone, "--data", trained.data, "--json").json()
    assert (document["n"], document["split"]) == (9, "test")
    assert "001-custom-cnn has 9, lone.safetensors has 61" in " ".join(document["notes"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--data", "digits", "--overlap"), "--overlap is for the test splits of runs"),
        (("--include-trained",), "--include-trained needs --data; to compare on the train split of the runs: --split train"),
    ],
)
def test_a_flag_that_the_images_do_not_use_is_an_error(cli, runs, flags, message) -> None:
    result = cli("compare", *runs[:2], *flags)
    assert (result.code, message in " ".join(result.err.split())) == (2, True)


def test_two_model_files_without_a_run_have_no_training_images(cli, trained) -> None:
    lone = [shutil.copy(trained.run / "best.safetensors", f"{name}.safetensors") for name in "ab"]
    result = cli("compare", *lone, "--data", trained.data, "--include-trained")
    assert (result.code, "--include-trained: no model lies in a run directory" in " ".join(result.err.split())) == (2, True)
