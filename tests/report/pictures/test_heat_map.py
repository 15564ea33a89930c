from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from cnnkit.explain.explanation import Explanation, Pictures
from cnnkit.explain.stages import FeatureStage
from cnnkit.report.pictures import contact_sheet
from cnnkit.report.pictures.heat_map import explanation_png, explanations_sheet, features_png, with_window


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def half_hot(size: int) -> np.ndarray[Any, Any]:
    heat = np.zeros((size, size), np.float32)
    heat[:, : size // 2] = 1
    return heat


def pictures(photo: np.ndarray[Any, Any] | None = None, window: tuple[float, float, float, float] = (0, 0, 32, 32)) -> Pictures:
    canvas = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    stage = FeatureStage("1", 5, (4, 0), np.stack([np.zeros((8, 8), np.float32), np.arange(64, dtype=np.float32).reshape(8, 8)]))
    return Pictures(canvas if photo is None else photo, window, canvas, half_hot(32), (stage,))


def test_the_part_outside_the_window_is_dimmed_and_outside_a_frame():
    photo = np.full((60, 100, 3), 200, np.uint8)
    shown = with_window(photo, (5, 25, 55, 75))
    assert (shown[30, 50] == 200).all()
    assert (shown[30, 10] == 100).all()
    assert (shown[2, 50] == 100).all()
    assert (shown[30, 25] == (255, 190, 0)).all()
    np.testing.assert_array_equal(with_window(photo, (0, 0, 60, 100)), photo)


def test_the_file_is_a_third_picture_only_if_it_differs_from_the_input():
    same = pixels(explanation_png(pictures(), title="a", head="b"))
    other = pixels(explanation_png(pictures(np.zeros((60, 100, 3), np.uint8)), title="a", head="b"))
    assert other.shape[1] > 1.4 * same.shape[1]


FRAME = (200, 30, 30)


def test_a_wrong_prediction_has_a_frame():
    right, wrong = (pixels(explanation_png(pictures(), title="a", head="b", wrong=wrong)) for wrong in (False, True))
    assert not (right == FRAME).all(2).any()
    assert (wrong == FRAME).all(2).sum() > 4 * 256


def test_the_sheet_marks_wrong_predictions_by_a_frame_and_words(monkeypatch):
    drawn: list[str] = []
    draw = contact_sheet._png
    monkeypatch.setattr(contact_sheet, "_png", lambda canvas, texts: (drawn.extend(text.text for text in texts), draw(canvas, texts))[1])
    right = Explanation("x/a.jpg", "", "ants", 0.9, "ants", 0.9, None, pictures(), true="ants")
    unknown = replace(right, true="")
    assert not (pixels(explanations_sheet([right, unknown], title="t")) == FRAME).all(2).any()
    assert not any(text.startswith("wrong") for text in drawn)
    sheet = pixels(explanations_sheet([right, replace(right, true="bees")], title="t"))
    framed = (sheet == FRAME).all(2)
    assert framed.any()
    assert framed[:, : sheet.shape[1] // 2].sum() == 0, "the right prediction, the first of two, must have no frame"
    assert {"wrong: ants", "true: bees"} <= set(drawn)


def test_each_channel_uses_the_whole_colour_scale():
    sheet = pixels(features_png(pictures(), title="a"))
    ends = [np.rint(255 * np.array(colormaps["viridis"](end)[:3])).astype(int) for end in (0.0, 1.0)]
    for colour in ends:
        assert (sheet == colour).all(2).sum() >= 16 * 16


def test_the_sheet_has_every_image_without_an_error():
    good = Explanation("x/a.jpg", "", "ants", 0.9, "ants", 0.9, None, pictures())
    three, four = (pixels(explanations_sheet([*[good] * count, Explanation("b.jpg", "broken")], title="t")) for count in (3, 4))
    assert four.shape[0] > three.shape[0]
    assert four.shape[1] == three.shape[1]
