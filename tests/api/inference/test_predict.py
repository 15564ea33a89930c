from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnkit.api.exports.export import export
from cnnkit.api.inference import prepared
from cnnkit.api.inference.predict import Prediction, find_images, predict, predictions
from cnnkit.errors import DataError, ModelFileError
from cnnkit.exporters.onnx import OnnxClassifier
from cnnkit.metrics.abstention import Abstention
from cnnkit.metrics.conformal import LabelSets
from cnnkit.model.file import load_model
from cnnkit.model.rules import Rules

SURE = Abstention(0.7, 0.02, 0.01, 0.95, 0.5, 500, 1, 1000, "val")
SETS = LabelSets(0.3, 0.95, 1000, "val")
CLASSES = ("path", "bees", "wasps")


def prediction(*probabilities: float, **facts: object) -> Prediction:
    return Prediction("a.jpg", CLASSES, np.array(probabilities, np.float32), **facts)  # pyright: ignore[reportArgumentType]


def test_top_classes_are_sorted_by_probability_then_by_index():
    assert prediction(0.25, 0.25, 0.5).top(2) == [("wasps", 0.5), ("path", 0.25)]
    assert len(prediction(0.2, 0.3, 0.5).top(9)) == 3
    assert Prediction("a.jpg", CLASSES, None, "truncated").top(3) == []


def test_a_class_column_does_not_take_the_name_of_another_column():
    row = prediction(0.25, 0.5, 0.25).row(all_probabilities=True)
    assert row == {
        "path": "a.jpg",
        "predicted": "bees",
        "probability": 0.5,
        "abstained": False,
        "error": None,
        "class path": 0.25,
        "bees": 0.5,
        "wasps": 0.25,
    }
    assert list(prediction(0.25, 0.5, 0.25).row()) == ["path", "predicted", "probability", "abstained", "error"]
    assert prediction(0.25, 0.5, 0.25, label_set=("bees", "path")).row()["label_set"] == ["bees", "path"]


def test_the_row_of_an_error_has_no_prediction():
    row = Prediction("a.jpg", CLASSES, None, "truncated").row(all_probabilities=True)
    assert (row["error"], row["predicted"], row["probability"], row["bees"]) == ("truncated", None, None, None)


def test_every_file_has_a_row_in_the_order_given_even_if_unreadable(brightness, gray_images, monkeypatch):
    monkeypatch.setattr(prepared, "MAX_BATCH_IMAGES", 2)
    files = gray_images(255, 0, 51)
    files[1:1] = [Path("missing.png"), Path("broken.png")]
    files[2].write_bytes(b"no image")
    classifier = brightness()
    found = list(predictions(classifier, files))
    assert [one.path for one in found] == [str(file) for file in files]
    assert [bool(one.error) for one in found] == [False, True, True, False, False]
    assert found[1].error == "No such file or directory"
    assert found[2].error.startswith("not an image in a supported format")
    assert [one.top(1) for one in found if not one.error] == [[("light", 1.0)], [("dark", 1.0)], [("dark", pytest.approx(0.8))]]
    assert classifier.batches == [1, 1, 1]  # batches of two files, the last of one; one file of each of the first two is unreadable
    assert all(one.label_set is None and not one.abstained for one in found)


def test_the_rules_of_the_model_file_decide_abstention_and_label_sets(brightness, gray_images):
    files = [*gray_images(51, 102, 255), Path("missing.png")]
    found = list(predictions(brightness(rules=Rules(abstention=SURE, label_sets=SETS)), files))
    assert [one.abstained for one in found] == [False, True, False, False]
    assert [one.label_set for one in found] == [("dark",), ("dark", "light"), ("light",), ()]


def test_a_watch_sees_every_image(brightness, gray_images):
    class Watch:
        def probabilities(self, classifier, images):
            self.seen = len(images)
            return classifier.probabilities(images)[:, ::-1]

    watch = Watch()
    found = list(predictions(brightness(), gray_images(0, 0, 0), watch))  # pyright: ignore[reportArgumentType]
    assert watch.seen == 3
    assert {one.top(1)[0][0] for one in found} == {"light"}


def test_a_folder_stands_for_its_images_in_sorted_order(gray_images, tmp_path):
    files = gray_images(1, 2, folder="some/deeper")
    (tmp_path / "some/notes.txt").write_text("x")
    Path("x.jpg").touch()
    found, notes = find_images(["x.jpg", tmp_path / "some", "x.jpg"])
    assert found == [Path("x.jpg"), *files, Path("x.jpg")]
    some = tmp_path / "some"
    assert notes == (
        f"{some}: left out 1 file without the suffix of an image: notes.txt; to try such a file, name it: cnnkit predict {some}/notes.txt",
    )


def test_a_folder_without_images_is_refused_with_the_files_it_has(tmp_path):
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match=r"void: no images in this folder; expected files such as photo\.jpg$"):
        find_images([tmp_path / "void"])
    for name in ("a.CR2", "b"):
        (tmp_path / "void" / name).touch()
    with pytest.raises(DataError, match=r"photo\.jpg; 2 files without the suffix of an image: a\.CR2, b$"):
        find_images([tmp_path / "void"])


def test_paths_of_which_none_exists_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"^no\.jpg: no such file or folder; name image files, or folders of images$"):
        find_images(["no.jpg"])
    with pytest.raises(DataError, match=r"^none of 2 paths exists, such as a\.jpg; name"):
        find_images(["a.jpg", "b.jpg"])
    (tmp_path / "there.jpg").touch()
    assert find_images(["a.jpg", "there.jpg"]) == ([Path("a.jpg"), Path("there.jpg")], ())


def test_a_run_predicts_one_file_or_several(trained):
    file = trained.data / "ants/ants-000.jpg"
    (alone,) = predict(file, trained.run)
    found = predict([file, trained.data / "bees"], trained.run)
    assert found.rules.temperature == 1
    first, *others = found
    assert len(others) == 21
    assert first.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
    assert alone.classes == ("ants", "bees", "wasps")
    assert sum(one.error != "" for one in others) == 1


def test_a_missing_model_is_an_error_before_any_image_is_read(tmp_path):
    with pytest.raises(ModelFileError, match="no finished run under runs"):
        predict("x.jpg")
    with pytest.raises(ModelFileError, match=r"--model nowhere: no such file or run directory"):
        predict("x.jpg", "nowhere")


@pytest.mark.slow
def test_a_model_that_was_trained_on_drafts_predicts_them_everywhere(trained, draft_model, draft_probabilities, tmp_path):
    files = [trained.data / f"{name}/{name}-00{index}.jpg" for name in ("ants", "bees", "wasps") for index in (0, 1)]
    expected = draft_probabilities(files)
    exported = export(draft_model, data=str(trained.data), out=tmp_path / "model.onnx")
    assert exported.parity.passed
    graph = OnnxClassifier(tmp_path / "model.onnx")
    assert graph.preprocessing is not None
    assert graph.preprocessing.draft_side == load_model(draft_model).header.preprocessing.draft_side
    for model in (draft_model, tmp_path / "model.onnx"):
        for images in (files, [file.read_bytes() for file in files]):
            found = [each.probabilities for each in predict(images, model) if each.probabilities is not None]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
