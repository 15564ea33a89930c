from __future__ import annotations

import json

import pytest

from cnnkit.api.evaluation import stored_evaluation
from cnnkit.api.evaluation.evaluate import evaluate
from cnnkit.api.evaluation.stored_evaluation import load_or_evaluate, predictions_of_fresh, predictions_of_stored
from cnnkit.errors import DataError, ModelFileError
from cnnkit.run_dir import RunDir


@pytest.fixture
def run(answered_run) -> RunDir:
    """Return a run with an evaluation on test: two right predictions, then a wrong one."""
    return RunDir(answered_run("001-a", [True, True, False], trained=range(3, 6)))


@pytest.fixture
def refused(monkeypatch) -> list[tuple[object, object]]:
    """Refuse every evaluation; return the list of the model and the split of each."""
    calls: list[tuple[object, object]] = []

    def refuse(model: object, *, split: object, progress: object, device: object) -> None:
        calls.append((model, split))
        raise DataError("evaluation refused")

    monkeypatch.setattr(stored_evaluation, "evaluate", refuse)
    return calls


def test_a_stored_evaluation_is_read_without_the_model(run, refused):
    found = load_or_evaluate(run)
    assert (found.folder, found.fresh, found.notes) == (run.path / "eval/test", False, ())
    assert [(row.path, row.predicted) for row in found.rows] == [
        ("ants/0000.jpg", "ants"),
        ("bees/0001.jpg", "bees"),
        ("wasps/0002.jpg", "ants"),
    ]
    assert refused == []


def test_stored_predictions_are_found_by_path(run):
    stored = predictions_of_stored(load_or_evaluate(run))
    assert {path: (row.predicted, row.probability, row.loss) for path, row in stored.by_path.items()} == {
        "ants/0000.jpg": ("ants", 0.9, 0.1),
        "bees/0001.jpg": ("bees", 0.9, 0.1),
        "wasps/0002.jpg": ("ants", 0.6, 1.5),
    }
    assert (stored.unreadable, stored.fresh, stored.notes) == ({}, False, ())


def test_unreadable_images_complete_an_evaluation(run, refused):
    folder = run.path / "eval/test"
    rows = (folder / "predictions.csv").read_text().splitlines()
    (folder / "predictions.csv").write_text("\n".join(rows[:-1]))
    with pytest.raises(DataError, match="evaluation refused"):
        load_or_evaluate(run)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["unreadable"] = [{"path": "wasps/0002.jpg", "error": "truncated"}]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert predictions_of_stored(load_or_evaluate(run)).unreadable == {"wasps/0002.jpg": "truncated"}


@pytest.mark.parametrize("content", ["", "path,true\nants/0000.jpg,ants\n", None])
def test_an_evaluation_without_its_columns_or_metrics_is_made_again(run, refused, content):
    folder = run.path / "eval/test"
    if content is None:
        (folder / "metrics.json").unlink()
    else:
        (folder / "predictions.csv").write_text(content)
    with pytest.raises(DataError, match="evaluation refused"):
        load_or_evaluate(run, "test")
    assert refused == [(run.path, "test")]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("predictions.csv", "bees,bees", "bees,flies", r"row 2, column predicted \(='flies'\) is no class of config\.json"),
        ("predictions.csv", "0.6", "high", r"row 3, column probability \(='high'\) must be a number"),
        ("metrics.json", "{", "", "not a JSON document"),
    ],
)
def test_a_damaged_evaluation_is_refused_with_its_file_and_field(run, refused, file, old, new, message):
    path = run.path / "eval/test" / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ModelFileError, match=rf"{file}: {message}.*; evaluate the model again: cnnkit eval --model"):
        load_or_evaluate(run)
    assert refused == []


def test_another_file_of_the_run_is_evaluated_into_a_folder_apart(run, refused):
    exported = run.path / "export/model.onnx"
    exported.parent.mkdir()
    exported.write_text("exported")
    with pytest.raises(DataError, match="evaluation refused"):
        load_or_evaluate(run, model=exported)
    assert refused == [(exported, None)]
    assert load_or_evaluate(run, model=run.best).folder == run.path / "eval/test"


@pytest.mark.parametrize("change", ["of some classes", "of other data", "of more images"])
def test_an_evaluation_that_is_not_of_the_whole_split_is_made_again(run, refused, change):
    folder = run.path / "eval/test"
    metrics = json.loads((folder / "metrics.json").read_text())
    if change == "of some classes":
        metrics["images"] = {"classes": ["ants"]}
    elif change == "of other data":
        metrics["images"] = {"source": "photos", "sha256": "0" * 64, "classes": []}
    else:
        (folder / "predictions.csv").write_text((folder / "predictions.csv").read_text() + "ants/other.jpg,ants,ants,0.9,0.1\n")
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(DataError, match="evaluation refused"):
        load_or_evaluate(run)


def test_a_fresh_evaluation_has_the_predictions_of_its_files(trained):
    run = RunDir(trained.run)
    first = load_or_evaluate(run)
    assert first.fresh
    assert first.notes == ("evaluated just now on test, now opened 1 time: the run had no evaluation of this model",)
    again, now = predictions_of_stored(load_or_evaluate(run)), predictions_of_fresh(evaluate(run.path))
    assert again.by_path == predictions_of_stored(first).by_path
    assert again.by_path.keys() == now.by_path.keys()
    for path, row in now.by_path.items():
        assert (row.predicted, row.probability) == (again.by_path[path].predicted, pytest.approx(again.by_path[path].probability))
        assert row.loss == pytest.approx(again.by_path[path].loss)
    assert (again.fresh, now.fresh) == (False, True)
    assert "test has been opened 2 times" in now.notes[0]
