from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnnkit.api.evaluation import stored_evaluation as room
from cnnkit.api.evaluation.evaluate import evaluate
from cnnkit.api.evaluation.stored_evaluation import Answer, evaluated, of_evaluation, of_files, place_beside
from cnnkit.errors import DataError, ModelFileError
from cnnkit.run_dir import RunDir


@pytest.fixture
def run(answered_run) -> RunDir:
    """A run with an evaluation on test: two right predictions and a wrong one, the last."""
    return RunDir(answered_run("001-a", [True, True, False], trained=range(3, 6)))


@pytest.fixture
def asked(monkeypatch) -> list[tuple[object, object, object]]:
    """Let every evaluation fail; returns the model, the split and the folder of each that was asked for."""
    found: list[tuple[object, object, object]] = []

    def refuse(model: object, *, split: object, out: object, progress: object) -> None:
        found.append((model, split, out))
        raise DataError("asked to evaluate")

    monkeypatch.setattr(room, "evaluate", refuse)
    return found


def test_a_stored_evaluation_is_read_without_the_model(run, asked):
    found = evaluated(run)
    assert (found.folder, found.fresh, found.notes) == (run.path / "eval/test", False, ())
    assert [(row.path, row.predicted) for row in found.rows] == [
        ("ants/0000.jpg", "ants"),
        ("bees/0001.jpg", "bees"),
        ("wasps/0002.jpg", "ants"),
    ]
    assert asked == []


def test_a_record_holds_the_predictions_by_path(run):
    record = of_files(evaluated(run))
    assert record.answers == {
        "ants/0000.jpg": Answer("ants", 0.9, 0.1),
        "bees/0001.jpg": Answer("bees", 0.9, 0.1),
        "wasps/0002.jpg": Answer("ants", 0.6, 1.5),
    }
    assert (record.unreadable, record.fresh, record.notes) == ({}, False, ())


def test_unreadable_images_complete_an_evaluation(run, asked):
    folder = run.path / "eval/test"
    rows = (folder / "predictions.csv").read_text().splitlines()
    (folder / "predictions.csv").write_text("\n".join(rows[:-1]))
    with pytest.raises(DataError, match="asked to evaluate"):
        evaluated(run)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["unreadable"] = [{"path": "wasps/0002.jpg", "error": "truncated"}]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert of_files(evaluated(run)).unreadable == {"wasps/0002.jpg": "truncated"}


@pytest.mark.parametrize("content", ["", "path,true\nants/0000.jpg,ants\n", None])
def test_an_evaluation_without_its_columns_or_metrics_is_made_again(run, asked, content):
    folder = run.path / "eval/test"
    if content is None:
        (folder / "metrics.json").unlink()
    else:
        (folder / "predictions.csv").write_text(content)
    with pytest.raises(DataError, match="asked to evaluate"):
        evaluated(run, "test")
    assert asked == [(run.path, "test", None)]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("predictions.csv", "bees,bees", "bees,flies", r"row 2, column predicted \(='flies'\) is no class of config\.json"),
        ("predictions.csv", "0.6", "high", r"row 3, column probability \(='high'\) must be a number"),
        ("metrics.json", "{", "", "not a JSON document"),
    ],
)
def test_a_damaged_evaluation_is_refused_by_file_and_field(run, asked, file, old, new, said):
    path = run.path / "eval/test" / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ModelFileError, match=rf"{file}: {said}.*; evaluate the model again: cnnkit eval --model"):
        evaluated(run)
    assert asked == []


def test_another_file_of_the_run_has_a_place_of_its_own(run, asked):
    exported = run.path / "export/model.onnx"
    exported.parent.mkdir()
    exported.write_text("exported")
    with pytest.raises(DataError, match="asked to evaluate"):
        evaluated(run, model=exported)
    assert asked == [(exported, None, run.path / "eval/test-model.onnx")]
    assert evaluated(run, model=run.best).folder == run.path / "eval/test"
    assert place_beside(run, Path("runs/001-a/best.safetensors"), "val") is None
    assert place_beside(run, exported, "val") == run.path / "eval/val-model.onnx"


def test_a_fresh_evaluation_has_the_predictions_of_its_files(trained):
    run = RunDir(trained.run)
    first = evaluated(run)
    assert first.fresh
    assert first.notes == ("evaluated just now on test, now opened 1 time: the run had no evaluation of this model",)
    again, now = of_files(evaluated(run)), of_evaluation(evaluate(run.path))
    assert again.answers == of_files(first).answers
    assert again.answers.keys() == now.answers.keys()
    for path, answer in now.answers.items():
        assert (answer.predicted, answer.probability) == (again.answers[path].predicted, pytest.approx(again.answers[path].probability))
        assert answer.loss == pytest.approx(again.answers[path].loss)
    assert (again.fresh, now.fresh) == (False, True)
    assert "test has now been opened 2 times" in now.notes[0]
