from __future__ import annotations

import json
import re
import shutil

import pytest


def test_a_run_without_an_evaluation_is_evaluated_with_a_note(cli, trained):
    result = cli("report")
    assert result.code == 0, result.err
    assert "runs/001-custom-cnn/best.safetensors (the newest finished run)" in result.err
    assert "evaluated just now on test, now opened 1 time" in result.err
    assert re.search(r"page .*runs/001-custom-cnn/report.html \(0\.\d MB, \d+ pictures, loads nothing\)", result.out)
    source = (trained.run / "report.html").read_text("utf-8")
    for part in ("Scores", "Confusions", "Classes", "Training", "Data", "Model", "How to repeat it"):
        assert f">{part}</h2>" in source
    assert "9 test images right" in source
    assert "bees/broken.jpg" in source  # the doctor's finding
    assert (trained.run / "curves.png").is_file()


def test_the_page_has_the_figures_of_the_stored_evaluation(cli, trained):
    metrics = cli("eval", "--json").json()
    facts = cli("report", "--json").json()
    assert (facts["split"], facts["evaluated_now"], facts["evaluation_seconds"]) == ("test", False, 0)
    assert facts["bytes"] == (trained.run / "report.html").stat().st_size
    assert facts["findings"] >= 1
    assert facts["heat_maps"] == 9  # one for each test image
    source = (trained.run / "report.html").read_text("utf-8")
    assert f"{100 * metrics['accuracy']['value']:.1f} % of 9 test images right" in source
    assert json.loads((trained.run / "eval/opened.json").read_text()) == {"test": 1}


def test_a_run_with_another_model_is_evaluated_again(cli, trained):
    assert cli("eval").code == 0
    file = trained.run / "eval/test/metrics.json"
    metrics = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(metrics | {"model": {"file": "best.safetensors", "sha256": "of another"}}), "utf-8")
    result = cli("report", "--json")
    assert result.json()["evaluated_now"]
    assert "now opened 2 times" in result.err


def test_the_split_and_the_file_can_be_chosen(cli, trained, tmp_path):
    facts = cli("report", trained.run, "--split", "val", "--out", tmp_path / "here" / "page.html", "--json").json()
    assert facts["split"] == "val"
    assert facts["report"].endswith("here/page.html")
    assert not (trained.run / "report.html").exists()
    source = (tmp_path / "here" / "page.html").read_text("utf-8")
    assert "The metrics are measured on val, which also chose the epoch" in source


def test_without_the_images_the_page_has_its_figures(cli, trained, monkeypatch):
    assert cli("eval").code == 0
    monkeypatch.setenv("CNNKIT_CACHE", str(trained.run / "no-cache"))
    config = json.loads((trained.run / "config.json").read_text())
    config["data"]["location"] = "gone"
    (trained.run / "config.json").write_text(json.dumps(config))
    result = cli("report", "--json")
    assert result.code == 0, result.err
    assert result.json()["pictures"] == 0
    assert "without pictures: the images of" in result.err
    source = (trained.run / "report.html").read_text("utf-8")
    assert "without pictures" in source
    assert "9 test images right" in source


def test_without_images_and_evaluation_the_page_has_the_training(cli, trained):
    config = json.loads((trained.run / "config.json").read_text())
    config["data"]["location"] = "gone"
    (trained.run / "config.json").write_text(json.dumps(config))
    result = cli("report", "--json")
    assert (result.code, result.json()["split"]) == (0, None)
    assert "not evaluated, so there is no score" in result.err
    refused = cli("report", "--split", "test")
    assert refused.code == 2
    assert "not at their recorded location" in refused.err


def test_a_missing_image_is_named_and_the_others_are_shown(cli, trained, tmp_path, monkeypatch):
    assert cli("eval").code == 0
    data = tmp_path / "copy"
    shutil.copytree(trained.data, data)
    path = (trained.run / "eval/test/predictions.csv").read_text().splitlines()[1].partition(",")[0]
    (data / path).unlink()
    config = json.loads((trained.run / "config.json").read_text())
    config["data"]["location"] = str(data)
    (trained.run / "config.json").write_text(json.dumps(config))
    result = cli("report", "--json")
    assert result.code == 0, result.err
    assert f"cannot be shown, because they are missing or unreadable, such as {path}" in result.err
    assert "without the doctor's findings" in result.err  # that folder was never scanned
    assert result.json()["pictures"] > 20


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere"], "no such file or run directory"),
        (["--out", "page.txt"], "--out page.txt: the ending must be .html"),
        (["a", "b"], "2 runs, but a page shows one run; to compare them, type: cnnkit report --compare a b"),
        (["--compare", "a"], "--compare takes two or more runs"),
    ],
)
def test_usage_errors(cli, trained, arguments, expected):
    result = cli("report", *arguments)
    assert result.code == 2
    assert expected in result.err


def test_a_model_file_without_a_run_is_an_error(cli, trained, tmp_path):
    shutil.copy(trained.run / "best.safetensors", tmp_path / "lone.safetensors")
    result = cli("report", tmp_path / "lone.safetensors")
    assert result.code == 2
    assert "lies in no run directory" in result.err


def test_several_runs_on_one_page(cli, trained, tmp_path):
    from cnnkit.model.file import read_header, rewrite_header

    other = trained.run.with_name("002-custom-cnn")
    shutil.copytree(trained.run, other)
    header = read_header(other / "best.safetensors")
    rewrite_header(other / "best.safetensors", header.model_copy(update={"temperature": 2.0}))
    facts = cli("report", "--compare", trained.run, other, "--json", "--out", tmp_path / "page.html").json()
    assert facts["runs"] == ["001-custom-cnn", "002-custom-cnn"]
    assert facts["split"] == "test"
    source = (tmp_path / "page.html").read_text("utf-8")
    for text in ("2 models compared", "002-custom-cnn against 001-custom-cnn", "How to repeat it", "val loss by epoch"):
        assert text in source
    result = cli("report", "--compare", trained.run, other)
    assert (result.code, (trained.run / "comparison.html").is_file()) == (0, True)
    assert "001-custom-cnn/comparison.html" in result.out
