from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnnkit.api.images import preview as module
from cnnkit.api.images.preview import preview
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import TrainConfig, by_section
from cnnkit.data.augment.augment import PRESETS, augment, draw_numbers
from cnnkit.data.image import read_image
from cnnkit.errors import DataError
from cnnkit.model.preprocess import Preprocess


def settings(data: Path | str, **given: object) -> TrainConfig:
    return resolve(by_section({"data": str(data), **given}))


def test_canvas_and_variants_equal_those_of_a_training(image_folder):
    folder = image_folder(images=1)
    shown = preview(settings(folder, resize_mode="pad"), variants=2)
    row = shown.rows[1]
    image = torch.from_numpy(read_image(folder / row.path).copy())[None]
    canvas = Preprocess(shown.preprocessing).canvas(image)
    np.testing.assert_array_equal(row.canvas, canvas[0].permute(1, 2, 0).numpy())
    draws = torch.from_numpy(draw_numbers(0, 2, np.array([1])))
    expected = augment(canvas, draws, PRESETS["default"])[0].permute(1, 2, 0).numpy()
    assert np.abs(row.variants[1].astype(float) - expected).max() <= 0.5


def test_a_gray_input_is_gray(image_folder):
    row = preview(settings(image_folder(images=1), channels=1), variants=1).rows[0]
    for picture in (row.canvas, *row.variants):
        assert picture.shape == (32, 32, 3)
        assert (picture == picture[:, :, :1]).all()
    assert not (row.original == row.original[:, :, :1]).all()


def test_only_the_images_that_are_shown_are_decoded(image_folder, monkeypatch):
    decoded: list[str] = []
    decode = module.decode
    monkeypatch.setattr(module, "decode", lambda stored, side: (decoded.append("one"), decode(stored, side))[1])
    steps: list[tuple[int, int]] = []
    shown = preview(
        settings(image_folder(images=30)), images_per_class=2, variants=0, progress=lambda done, all_: steps.append((done, all_))
    )
    assert len(shown.rows) == len(decoded) == 6
    assert steps[-1] == (6, 6)


def test_the_seed_draws_images_spread_over_the_class(image_folder):
    folder = image_folder(["ants", "bees"], images=40)
    first, again, other = (preview(settings(folder, seed=seed), variants=0) for seed in (0, 0, 1))
    paths = [row.path for row in first.rows]
    assert paths == [row.path for row in again.rows]
    assert paths != [row.path for row in other.rows]
    assert [int(path[-7:-4]) // 10 for path in paths] == [0, 1, 2, 3] * 2


def test_images_come_from_the_train_folder_if_there_is_one(image_folder):
    for part in ("train", "val"):
        folder = image_folder(images=3, folder=f"data/{part}").parent
    assert all(row.path.startswith("train/") for row in preview(settings(folder), variants=0).rows)


def test_many_classes_have_fewer_images_and_too_many_are_thinned_out(image_folder, monkeypatch):
    monkeypatch.setattr(module, "MAX_ROWS", 6)
    some = preview(settings(image_folder(images=3)), variants=0)
    assert len(some.rows) == 6
    many = preview(settings(image_folder([f"c{index}" for index in range(12)], images=1, folder="many")), variants=0)
    assert [row.label for row in many.rows] == ["c0", "c2", "c4", "c6", "c8", "c10"]
    assert "6 of 12 classes are shown; choose others with --classes" in many.notes


def test_an_unreadable_image_is_named_and_left_out(image_folder):
    folder = image_folder(["ants", "bees"], images=2)
    whole = folder / "ants" / "ants-000.jpg"
    whole.write_bytes(whole.read_bytes()[:500])
    shown = preview(settings(folder), variants=0)
    assert len(shown.rows) == 3
    assert any(note.startswith("left out ants/ants-000.jpg: ") for note in shown.notes)


def test_only_unreadable_images_are_an_error(image_folder):
    folder = image_folder(["ants", "bees"], images=1)
    for path in folder.rglob("*.jpg"):
        file = io.BytesIO()
        Image.new("RGB", (40, 32)).save(file, "JPEG")
        path.write_bytes(file.getvalue()[:-20])  # the header is whole, the picture is not
    with pytest.raises(DataError, match="none of 2 images can be read, such as ants"):
        preview(settings(folder))
