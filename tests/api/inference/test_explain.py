from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from cnnkit.api.inference.explain import explain
from cnnkit.api.inference.predict import predict
from cnnkit.errors import CnnkitError, ConfigError, DataError


def test_explanations_have_the_predictions_and_errors_of_predict(trained):
    files = [trained.data / "wasps/wasps-001.jpg", trained.data / "bees/broken.jpg", trained.data / "ants/ants-000.jpg"]
    found = list(explain(files, trained.run))
    for one, prediction in zip(found, predict(files, trained.run), strict=True):
        assert one.path == prediction.path
        assert one.error == prediction.error
        assert [(one.predicted, pytest.approx(one.probability, abs=1e-6))] == (prediction.top(1) or [("", 0.0)])
    assert found[1].pictures is None
    assert found[1].row()["predicted"] is None


def test_pictures_show_the_canvas_of_the_network(trained):
    (one,) = explain(trained.data / "ants/ants-000.jpg", trained.run)
    assert one.pictures is not None
    size = len(one.pictures.canvas)
    assert one.pictures.canvas.shape == (size, size, 3)
    assert one.pictures.heat.shape == (size, size)
    assert one.pictures.heat.max() == 1
    assert one.pictures.photo.shape == (32, 40, 3)
    assert one.pictures.window == (0, 4, 32, 36)  # the middle of 40 x 32 pixels
    sizes = [stage.size for stage in one.pictures.stages]
    assert sizes == sorted(sizes, reverse=True)
    assert one.agreement is not None
    assert -1 <= one.agreement <= 1


def test_each_class_has_its_own_evidence(trained):
    image = trained.data / "ants/ants-000.jpg"
    heats: list[np.ndarray] = []
    for name in ("ants", "bees"):
        (one,) = explain(image, trained.run, class_name=name, check=False, features=False)
        assert (one.explained, one.agreement) == (name, None)
        assert one.pictures is not None
        assert one.pictures.stages == ()
        heats.append(one.pictures.heat)
    assert abs(heats[0] - heats[1]).max() > 0.1


def test_occlusion_is_not_checked_by_itself(trained):
    (one,) = explain(trained.data / "bees/bees-001.jpg", trained.run, method="occlusion", features=False)
    assert one.pictures is not None
    assert one.pictures.heat.max() == 1
    assert one.agreement is None


def test_the_true_class_is_that_of_the_run_else_that_of_the_folder(trained, tmp_path):
    moved = tmp_path / "some" / "photo.jpg"
    named = tmp_path / "wasps" / "photo.jpg"
    for copy in (moved, named):
        copy.parent.mkdir()
        shutil.copy(trained.data / "ants/ants-000.jpg", copy)
    files = [trained.data / "ants/ants-000.jpg", moved, named]
    found = list(explain(files, trained.run, check=False, features=False))
    assert [one.true for one in found] == ["ants", "", "wasps"]
    assert [one.wrong for one in found] == [found[0].predicted != "ants", False, found[0].predicted != "wasps"]
    assert [one.row()["true"] for one in found] == ["ants", None, "wasps"]


def test_the_label_of_a_table_wins_over_the_name_of_the_folder(trained, tmp_path):
    photo = tmp_path / "table" / "wasps" / "photo.jpg"
    photo.parent.mkdir(parents=True)
    shutil.copy(trained.data / "ants/ants-000.jpg", photo)
    config = json.loads((trained.run / "config.json").read_text())
    config["data"]["location"] = str(tmp_path / "table" / "labels.csv")
    (trained.run / "config.json").write_text(json.dumps(config))
    rows = (trained.run / "split.csv").read_text().replace("ants/ants-000.jpg", "wasps/photo.jpg")
    (trained.run / "split.csv").write_text(rows)
    (one,) = explain(photo, trained.run, check=False, features=False)
    assert one.true == "ants"


def test_errors_are_raised_before_any_image_is_read(trained, tmp_path):
    image = trained.data / "ants/ants-000.jpg"
    with pytest.raises(ConfigError, match=r"--class ant: the model has no such class; did you mean 'ants'\? Its classes: ants, bees"):
        explain(image, trained.run, class_name="ant")
    with pytest.raises(ConfigError, match="--layer 3: --method occlusion uses no layer"):
        explain(image, trained.run, layer="3", method="occlusion")
    with pytest.raises(ConfigError, match="--layer nose: Sequential has no such layer"):
        explain(image, trained.run, layer="nose")
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="no images in this folder"):
        explain(tmp_path / "void", trained.run)
    exported = trained.run / "export/model.onnx"
    exported.parent.mkdir()
    exported.write_bytes(b"")
    with pytest.raises(CnnkitError, match=rf"an exported file has no layers and no gradients.*--model {trained.run}$"):
        explain(image, exported)


def test_a_draft_is_explained_if_the_network_saw_drafts(trained, draft_model, draft_probabilities):
    files = [trained.data / "ants/ants-000.jpg", trained.data / "bees/bees-001.jpg"]
    found = list(explain(files, draft_model, check=False, features=False))
    np.testing.assert_allclose([each.probability for each in found], draft_probabilities(files).max(1), rtol=0, atol=1e-6)
