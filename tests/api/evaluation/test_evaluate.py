from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import cnnkit
from cnnkit.data.image import read_image
from cnnkit.errors import CheckFailedError, ConfigError, DataError
from cnnkit.metrics.intervals import Estimate
from cnnkit.model.tta import PLAIN_VIEW, Views


class Frame(dict[str, object]):
    """A table with named columns."""

    @property
    def columns(self) -> list[str]:
        return list(self)


def test_tta_averages_over_views_and_has_a_folder_apart(trained):
    plain, several = cnnkit.evaluate(trained.run), cnnkit.evaluate(trained.run, tta=True)
    assert (plain.views, several.views) == (PLAIN_VIEW, Views("h", 1))
    assert plain.heading == ""
    assert plain.paths == several.paths
    assert 1e-5 < np.abs(plain.probabilities - several.probabilities).max() < 1
    assert several.folder == trained.run / "eval/test-tta"
    assert several.opened == 2


def test_min_accuracy_names_the_measured_accuracy_and_the_limit(trained):
    found = cnnkit.evaluate(trained.run)
    accuracy = Estimate(0.5, 0.2, 0.8)
    found = replace(found, report=replace(found.report, accuracy=accuracy))
    with pytest.raises(CheckFailedError) as missed:
        found.require_accuracy(0.9)
    measured = "the accuracy is 0.5000 (95 % interval 0.2000 to 0.8000, 9 test images)"
    assert str(missed.value) == f"{measured}; --min-accuracy asks for at least 0.9"
    assert missed.value.exit_code == 1
    assert found.require_accuracy(0.1) == f"{measured}; --min-accuracy 0.1 is met"
    assert found.require_accuracy(0.5).endswith("is met, but the interval begins below it: other images may give less")


def test_images_in_memory_are_evaluated_like_their_folder(trained, image_folder):
    folder = image_folder(images=4, folder="others", seed=7)
    files = sorted(folder.rglob("*.jpg"))
    labels = [file.parent.name for file in files]
    expected = cnnkit.evaluate(trained.run, data=folder).report.to_dict(confusion=True)
    assert expected["n"] == 12
    model = cnnkit.load_model(trained.run)
    table = {"path": files, "label": labels}
    pictures = [read_image(file) for file in files]
    for found in (
        cnnkit.evaluate(model, images=files, labels=labels),
        cnnkit.evaluate(model, images=np.stack(pictures), labels=np.array(labels)),
        cnnkit.evaluate(model, images=[Image.fromarray(picture) for picture in pictures], labels=labels),
        cnnkit.evaluate(model, data=Frame(table)),
    ):
        assert found.report.to_dict(confusion=True) == expected
        assert found.images is not None
        assert found.images.data.startswith("arrays-")
    with pytest.raises(ConfigError, match=r"evaluate\(\) got images, but needs either data or both images and labels"):
        cnnkit.evaluate(model, images=files)
    with pytest.raises(DataError, match="has classes that the model does not have: cats; the model has: ants, bees, wasps"):
        cnnkit.evaluate(model, images=files, labels=["cats"] * 12)


def test_an_evaluation_is_short_in_a_shell_and_a_table_in_a_notebook(trained):
    found = cnnkit.evaluate(trained.run)
    accuracy = found.report.accuracy
    summary = f"test: {found.report.n} images, 3 classes, accuracy {accuracy.value:.4f} ({accuracy.low:.4f} to {accuracy.high:.4f})"
    assert repr(found).startswith(f"Evaluation('{trained.run}/best.safetensors', {summary}, loss ")
    assert repr(found).endswith(f", files '{trained.run}/eval/test')")
    assert repr(found.report).startswith(f"ClassificationReport({summary}")
    assert f"<caption>{found.report.n} test images, 3 classes</caption>" in found._repr_html_()
    assert f"<td>accuracy</td><td>{100 * accuracy.value:.1f} %</td>" in found._repr_html_()
