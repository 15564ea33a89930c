from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import cnnkit
from cnnkit.api.inference.trained_model import PredictionList, TrainedModel, load_model
from cnnkit.data.image import read_image
from cnnkit.errors import DataError, ModelFileError
from cnnkit.run_dir import RunDir


@pytest.fixture
def model(trained) -> TrainedModel:
    return load_model(trained.run)


def test_a_run_its_folder_its_name_and_its_file_load_the_same_model(trained, model):
    best = trained.run / "best.safetensors"
    for given in (trained.run, str(trained.run), RunDir(trained.run), trained.run.name, best, None, model):
        found = cnnkit.load_model(given)
        assert found.path.resolve() == best.resolve()
        assert found.run is not None
        assert found.classes == ("ants", "bees", "wasps")
    assert model.header.arch == "custom-cnn"
    assert not model.module.training
    assert repr(model) == f"TrainedModel('{best}', custom-cnn on cpu, 3 classes: ants, bees, wasps)"


def test_an_exported_file_predicts_but_has_no_network(trained_export, model):
    exported = load_model(trained_export)
    image = np.full((20, 30, 3), 90, np.uint8)
    assert exported.predict(image).probability == pytest.approx(model.predict(image).probability, abs=1e-3)
    assert "exported, 3 classes" in repr(exported)
    with pytest.raises(ModelFileError, match=r"an exported file has no torch module; load the run or its best\.safetensors"):
        _ = exported.module
    with pytest.raises(ModelFileError, match="has no header"):
        _ = exported.header


def test_every_form_of_an_image_has_the_same_prediction(trained, model):
    file = trained.data / "ants" / "ants-000.jpg"
    pixels = read_image(file)
    with Image.open(file) as picture:
        found = [model.predict(given) for given in (file, str(file), pixels, picture, file.read_bytes())]
    for each in found:
        np.testing.assert_array_equal(each.probabilities, found[0].probabilities)
    assert [each.path for each in found] == [str(file), str(file), "", "", ""]
    assert found[0].label == found[0].top(1)[0][0]
    assert found[0].probability == found[0].top(1)[0][1]
    assert repr(found[2]) == f"Prediction({found[2].label!r}, {found[2].probability:.3f})"


def test_a_list_keeps_its_order_and_holds_the_errors(trained, model):
    file = trained.data / "bees" / "bees-001.jpg"
    found = model.predict([file, "missing.jpg", read_image(file), b"no image"])
    assert isinstance(found, PredictionList)
    assert [each.path for each in found] == [str(file), "missing.jpg", "", ""]
    assert [bool(each.error) for each in found] == [False, True, False, True]
    assert found[0].label == found[2].label
    assert repr(found[1]) == "Prediction(error='No such file or directory', path='missing.jpg')"
    with pytest.raises(DataError, match=r"^missing\.jpg: No such file or directory$"):
        _ = found[1].label
    with pytest.raises(DataError, match=r"^not an image in a supported format"):
        _ = found[3].probability


def test_an_array_of_images_and_a_folder_in_a_list_are_lists(trained, model):
    images = np.stack([read_image(file) for file in sorted((trained.data / "ants").iterdir())[:3]])
    assert [each.label for each in model.predict(images)] == [each.label for each in model.predict(list(images))]
    assert len(model.predict([trained.data / "ants"])) == 20
    assert model.predict([]) == []


def test_a_single_unreadable_image_and_a_folder_are_errors(trained, model):
    broken = trained.data / "bees" / "broken.jpg"
    with pytest.raises(DataError, match=rf"^{broken}: the file is truncated$"):
        model.predict(broken)
    with pytest.raises(DataError, match=r"^image: not an image in a supported format"):
        model.predict(b"no image")
    with pytest.raises(DataError, match=rf"a folder; for a prediction of every image in it, give a list: predict\(\['{trained.data}'\]\)"):
        model.predict(trained.data)
    with pytest.raises(DataError, match="no such file or folder"):
        model.predict("missing.jpg")


def test_a_list_is_short_in_a_shell_a_table_in_a_notebook_and_columns_for_a_table(model):
    found = model.predict([np.full((8, 8), level, np.uint8) for level in range(0, 250, 10)] + [b"<b>"])
    assert repr(found) == f"26 predictions: [{found[0]!r}, ...]"
    html = found._repr_html_()
    assert html.count("<tr>") == 21
    assert "<p>and 6 more</p>" in html
    columns = found.to_dict()
    assert list(columns) == ["path", "predicted", "probability", "abstained", "error"]
    assert columns["predicted"][:25] == [each.label for each in found[:25]]
    assert columns["predicted"][25] is None
    assert PredictionList().to_dict() == {}


def test_other_values_are_no_model():
    with pytest.raises(ModelFileError, match="model: got a value of type int; expected a run, its folder or name, a model file"):
        load_model(5)  # pyright: ignore[reportArgumentType]


def test_predictions_of_the_function_take_images_in_memory_too(trained, model):
    file = trained.data / "ants" / "ants-000.jpg"
    found = list(cnnkit.predict([read_image(file), file], model=model))
    assert found[0].label == found[1].label
    assert [each.path for each in found] == ["", str(file)]
