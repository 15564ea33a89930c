from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cnnkit.api.inference.run_images import ImageCanvases, find_canvases, find_run_canvases, picture, pictures
from cnnkit.data.image import read_image
from cnnkit.data.source import open_source
from cnnkit.data.store.cache import stores
from cnnkit.data.store.scan import scan
from cnnkit.errors import DataError
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.run_dir import RunDir

SPEC = Preprocessing(image_size=16, mean=(0.5,) * 3, std=(0.2,) * 3)


@pytest.fixture
def three() -> ImageCanvases:
    """Return three canvases, each of its own gray level; the canvas of "b" is the last."""
    canvases = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((3, 1, 4, 4), np.uint8)
    return ImageCanvases({"a": 0, "c": 1, "b": 2}, canvases, stored=True)


def test_missing_images_are_counted_with_one_example(three):
    assert three.known(["b", "x", "a"]) == ["b", "a"]
    assert three.missing(["a", "b"]) == ()
    assert three.missing(["a", "y", "x"]) == ("2 of 3 images cannot be shown, because they are missing or unreadable, such as y",)


def test_each_canvas_comes_with_its_own_path_in_any_order(three):
    found = {path: int(canvas[0, 0, 0]) for names, block in three.of(["b", "a", "c"]) for path, canvas in zip(names, block, strict=True)}
    assert found == {"a": 0, "c": 1, "b": 2}


def test_pictures_are_rgb_of_at_most_the_given_size(three):
    found = three.pictures(["b", "gone", "a", "b"], 2)
    assert {path: (image.shape, int(image.max())) for path, image in found.items()} == {"a": ((2, 2, 3), 0), "b": ((2, 2, 3), 2)}


@pytest.mark.parametrize("channels", [1, 3])
def test_a_canvas_is_turned_into_a_picture(channels):
    canvas = np.random.default_rng(0).integers(0, 256, (channels, 5, 5)).astype(np.uint8)
    image = picture(canvas)
    assert (image.shape, image.flags.c_contiguous) == ((5, 5, 3), True)
    np.testing.assert_array_equal(image[..., channels - 1], canvas[-1])


def test_canvases_come_from_the_store_or_only_the_given_images_are_decoded(image_folder):
    data: Path = image_folder(images=4)
    (data / "ants/ants-001.jpg").write_bytes(b"no image")
    source, paths = open_source(str(data)), ["ants/ants-001.jpg", "wasps/wasps-002.jpg", "gone.jpg"]
    cold = find_canvases(source, source.records, paths, SPEC)
    assert (cold.stored, sorted(cold.rows)) == (False, ["wasps/wasps-002.jpg"])
    assert stores() == []
    scan(source, source.records, SPEC)
    warm = find_canvases(source, source.records, paths, SPEC)
    assert (warm.stored, len(warm.rows)) == (True, 11)
    ((_, one),), ((_, other),) = cold.of(["wasps/wasps-002.jpg"]), warm.of(["wasps/wasps-002.jpg"])
    np.testing.assert_array_equal(one, other)


def test_the_images_of_a_run_have_the_canvas_size_of_the_run(trained):
    run = RunDir(trained.run)
    there = find_run_canvases(run, run.read_record(), ["ants/ants-000.jpg"])
    assert there.stored
    assert there.missing(["bees/broken.jpg", "ants/ants-000.jpg"]) == (
        "1 of 2 images cannot be shown, because they are missing or unreadable, such as bees/broken.jpg",
    )
    ((_, canvases),) = there.of(["ants/ants-000.jpg"])
    assert canvases.shape == (1, 3, 32, 32)
    config = json.loads((trained.run / "config.json").read_text())
    config["data"]["location"] = "gone"
    (trained.run / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="are not at their recorded location"):
        find_run_canvases(run, run.read_record(), ["ants/ants-000.jpg"])


def test_pictures_are_decoded_from_the_files_without_the_unreadable_ones(image_folder):
    data: Path = image_folder(images=2)
    (data / "ants/ants-001.jpg").write_bytes(b"no image")
    found = pictures(data, ["bees/bees-000.jpg", "ants/ants-001.jpg", "nowhere.jpg"], size=100)
    assert list(found) == ["bees/bees-000.jpg"]
    np.testing.assert_array_equal(found["bees/bees-000.jpg"], read_image(data / "bees/bees-000.jpg"))
    assert pictures(data, ["bees/bees-000.jpg"], size=20)["bees/bees-000.jpg"].shape == (16, 20, 3)
    assert pictures("nowhere", [], size=20) == {}
