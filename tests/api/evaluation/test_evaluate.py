from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import cnnkit
from cnnkit.data.image import read_image
from cnnkit.errors import ConfigError, DataError
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
