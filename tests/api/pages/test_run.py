from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cnnkit.api.evaluation.evaluate import evaluate
from cnnkit.api.pages import run as room
from cnnkit.api.pages.run import report
from cnnkit.errors import CnnkitError, DataError, ModelFileError
from cnnkit.run_dir import RunDir


def point_at(run: Path, folder: Path | str) -> None:
    """Make `folder` the recorded location of the images of `run`."""
    config = json.loads((run / "config.json").read_text())
    config["data"]["location"] = str(folder)
    (run / "config.json").write_text(json.dumps(config))


def test_the_page_agrees_with_the_returned_facts(trained):
    found = report()
    source = (trained.run / "report.html").read_text("utf-8")
    assert (found.path, found.split, found.target.chosen) == (Path("runs/001-custom-cnn/report.html"), "test", True)
    assert found.pictures == source.count("<img ")
    assert found.bytes == (trained.run / "report.html").stat().st_size
    assert (found.heat_maps, found.fresh) == (9, True)  # one for each test image
    assert found.findings is not None
    assert found.findings >= 1
    assert found.notes == ("evaluated just now on test, now opened 1 time: the run had no evaluation of this model",)
    assert 0 < found.evaluation_seconds < found.seconds
    assert "bees/broken.jpg" in source  # the doctor's finding
    assert (trained.run / "curves.png").is_file()
    document = found.to_dict()
    assert (document["run"], document["evaluated_now"], document["notes"]) == ("runs/001-custom-cnn", True, list(found.notes))


def test_a_stored_evaluation_is_used(trained):
    figures = evaluate(trained.run, split="val")
    found = report(trained.run, split="val", out=trained.run / "deep/page.html")
    assert (found.split, found.fresh, found.evaluation_seconds, found.notes) == ("val", False, 0, ())
    source = (trained.run / "deep/page.html").read_text("utf-8")
    assert f"{100 * figures.report.accuracy.value:.1f} % of 9 val images right" in source
    assert not (trained.run / "report.html").exists()
    assert not (trained.run / "eval/test").exists()


def test_missing_images_are_noted_and_an_error_with_a_given_split(trained):
    point_at(trained.run, "gone")
    found = report(trained.run)
    assert (found.split, found.pictures, found.heat_maps, found.findings) == (None, 0, 0, None)
    first, second = found.notes
    assert first.startswith(f"not evaluated, so there is no score: the images of {trained.run} are not at their recorded location")
    assert second.startswith("without pictures: the images of")
    with pytest.raises(DataError, match="are not at their recorded location"):
        report(trained.run, split="test")


def test_without_a_network_there_are_no_heat_maps(trained, monkeypatch):
    def broken(_: Path) -> None:
        raise CnnkitError("its package is gone")

    evaluate(trained.run)
    monkeypatch.setattr(room, "load_model", broken)
    found = report(trained.run)
    assert (found.heat_maps, found.notes) == (0, ("without heat maps: its package is gone",))
    assert found.pictures > 9


def test_a_network_that_cannot_be_explained_is_a_note(trained, monkeypatch):
    def flat(_: object) -> None:
        raise CnnkitError("it has no maps")

    evaluate(trained.run)
    monkeypatch.setattr(room, "GradCam", flat)
    found = report(trained.run)
    assert (found.heat_maps, found.notes) == (0, ("without heat maps: it has no maps",))


def test_findings_need_the_decoded_images(trained, tmp_path, monkeypatch):
    evaluate(trained.run)
    monkeypatch.delattr(room, "examine")
    monkeypatch.setenv("CNNKIT_CACHE", str(tmp_path / "empty"))
    found = report(trained.run)
    assert found.findings is None
    assert found.notes == (f"without the doctor's findings: the cache does not hold the decoded images; see cnnkit doctor {trained.data}",)


def test_a_model_file_without_a_run_has_no_page(trained):
    shutil.copy(trained.run / "best.safetensors", "lone.safetensors")
    with pytest.raises(ModelFileError, match=r"^lone\.safetensors lies in no run directory, which a report needs; name a run: cnnkit"):
        report("lone.safetensors")


def test_images_are_counted_by_class_and_split(trained):
    run = RunDir(trained.run)
    rows = run.read_split()
    counts = room._counts(rows, ["ants", "bees", "wasps"])
    assert sum(counts["bees"].values()) == 20
    assert sum(of["test"] for of in counts.values()) == 9
    training = room._training(rows, ["ants", "bees", "wasps"])
    assert [len(training[label]) for label in range(3)] == [of["train"] for of in counts.values()]
    assert all(path.startswith("wasps/") for path in training[2])
