from __future__ import annotations

import numpy as np
import pytest

from cnnkit.data.appearance import appearance, features


def one(canvas: np.ndarray) -> dict[str, float]:
    """Return the features of one canvas (C, S, S) by name."""
    names = features(canvas.shape[0])
    values = appearance(canvas[None].astype(np.uint8))
    assert values.shape == (1, len(names))
    return dict(zip(names, map(float, values[0]), strict=True))


NOISE = np.random.default_rng(0).integers(0, 256, (3, 16, 16))


def test_a_plain_gray_image():
    gray = one(np.full((3, 8, 8), 51))
    assert list(gray.values()) == [pytest.approx(0.2), pytest.approx(0, abs=1e-6), 0.0, 0.0, 0.0]


def test_red_is_warm_and_saturated_and_blue_is_cold():
    red = np.zeros((3, 8, 8))
    red[0] = 255
    assert (one(red)["saturation"], one(red)["warmth"], one(red)["brightness"]) == (1.0, 1.0, pytest.approx(0.299))
    assert one(red[::-1])["warmth"] == -1.0


def test_half_the_light_halves_brightness_and_contrast_but_not_sharpness():
    even = 2 * (NOISE // 2)
    bright, dark = one(even), one(even // 2)
    for name in ("brightness", "contrast", "saturation", "warmth"):
        assert dark[name] == pytest.approx(bright[name] / 2, rel=1e-4)
    assert dark["sharpness"] == pytest.approx(bright["sharpness"], rel=1e-4)


def test_a_blurred_image_is_less_sharp():
    blurred = (NOISE + np.roll(NOISE, 1, 1) + np.roll(NOISE, 1, 2)) / 3
    assert one(blurred)["sharpness"] < 0.8 * one(NOISE)["sharpness"]


def test_one_channel_has_no_colour():
    assert features(1) == ("brightness", "contrast", "sharpness")
    assert one(NOISE[:1])["brightness"] == pytest.approx(NOISE[0].mean() / 255)


@pytest.mark.parametrize("size", [1, 2])
def test_images_without_inner_pixels_have_no_sharpness(size):
    assert one(NOISE[:, :size, :size])["sharpness"] == 0.0


def test_images_of_a_batch_are_measured_like_single_images():
    stack = np.random.default_rng(1).integers(0, 256, (5, 3, 9, 9)).astype(np.uint8)
    np.testing.assert_allclose(appearance(stack), np.concatenate([appearance(stack[i : i + 1]) for i in range(5)]), rtol=1e-5, atol=1e-6)
