"""Canvases made in blocks beside the dense products of `Preprocess`, bit by bit."""

from __future__ import annotations

import itertools
import zlib

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cnnkit.model import canvas as module
from cnnkit.model.canvas import filter_weights, make_canvas, make_canvases, normalise
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing


def spec(size: int, channels: int = 3, **settings) -> Preprocessing:
    return Preprocessing(image_size=size, channels=channels, mean=(0.5,) * channels, std=(0.25,) * channels, **settings)  # pyright: ignore[reportArgumentType]


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return noise of full contrast, whose cubic overshoots, beside noise of all levels."""
    random = np.random.default_rng([seed, *shape])
    levels = random.integers(0, 256, shape, np.uint8)
    levels[..., ::2] = (levels[..., ::2] > 127) * np.uint8(255)
    return levels


def dense(images: NDArray[np.uint8], settings: Preprocessing) -> NDArray[np.uint8]:
    """Return the canvases as the exported graph computes them."""
    return Preprocess(settings).resample(torch.from_numpy(images)).to(torch.uint8).numpy()


MODES = [("crop", 1.0), ("crop", 0.875), ("crop", 0.3), ("pad", 1.0), ("squash", 1.0)]
SIZES = [(1, 1), (37, 501), (501, 37), (32, 32), (7, 5), (1, 300), (2000, 3), (427, 640)]


@pytest.mark.parametrize(("mode", "crop"), MODES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_blocks_equal_the_dense_products_bit_by_bit(mode, crop, interpolation, channels):
    for size, shape in itertools.product((1, 2, 31, 32, 64), SIZES):
        settings = spec(size, channels, resize_mode=mode, crop=crop, interpolation=interpolation)
        images = noise(1, *shape, 3)
        np.testing.assert_array_equal(make_canvas(images, settings), dense(images, settings), err_msg=f"{size} {shape}")


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(4000, 3000), (3000, 4000)])
@pytest.mark.parametrize(("mode", "crop"), MODES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_blocks_equal_the_dense_products_on_12_megapixels(shape, mode, crop, interpolation):
    settings = spec(224, resize_mode=mode, crop=crop, interpolation=interpolation)
    images = noise(1, *shape, 3)
    np.testing.assert_array_equal(make_canvas(images, settings), dense(images, settings))


def test_stores_of_earlier_versions_stay_valid():
    """The checksums are those of the dense products that made the first stores of `DECODER_VERSION` 4."""
    found = {}
    for mode, interpolation, channels in itertools.product(("crop", "pad", "squash"), ("bilinear", "bicubic"), (1, 3)):
        settings = spec(48, channels, resize_mode=mode, crop=0.9 if mode == "crop" else 1.0, interpolation=interpolation)
        found[f"{mode} {interpolation} {channels}"] = zlib.crc32(make_canvas(noise(2, 111, 97, 3), settings).tobytes())
    assert found == CHECKSUMS


CHECKSUMS = {
    "crop bilinear 1": 44415591,
    "crop bilinear 3": 3417086374,
    "crop bicubic 1": 4084372706,
    "crop bicubic 3": 3318989411,
    "pad bilinear 1": 4209184479,
    "pad bilinear 3": 3340970335,
    "pad bicubic 1": 1227737647,
    "pad bicubic 3": 1325076561,
    "squash bilinear 1": 2900107589,
    "squash bilinear 3": 2814534301,
    "squash bicubic 1": 648131517,
    "squash bicubic 3": 3063549069,
}


def test_a_strip_of_lines_is_resized_at_a_time(monkeypatch):
    settings = spec(32, interpolation="bicubic")
    images = noise(3, 70, 50, 3)
    whole = make_canvas(images, settings)
    monkeypatch.setattr(module, "MAX_STRIP_PIXELS", 7 * 50)
    np.testing.assert_array_equal(make_canvas(images, settings), whole)


def test_lines_and_columns_outside_the_crop_are_not_read():
    settings = spec(32, crop=0.5)
    rows, columns = (module._line(pixels, 32, 100 * 0.5 / 32, cubic=False, channels=1) for pixels in (100, 400))
    assert (rows.start, rows.stop) == (24, 76)  # the middle 50 pixels and one on each side, into which the triangle reaches
    assert (columns.start, columns.stop) == (174, 226)
    image = noise(1, 100, 400, 3)
    other = image.copy()
    other[:, :24] = other[:, 76:] = other[:, :, :174] = other[:, :, 226:] = 0
    np.testing.assert_array_equal(make_canvas(image, settings), make_canvas(other, settings))


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize(("pixels", "size", "scale"), [(1, 4, 0.25), (50, 7, 50 / 7), (9, 64, 9 / 64), (40, 8, 12.5)])
def test_numpy_and_torch_have_the_same_weights(cubic, pixels, size, scale):
    outputs, inputs = (np.arange(size, dtype=np.float32) + 0.5 - size / 2), (np.arange(pixels, dtype=np.float32) + 0.5)[None]
    outputs, inputs = outputs.astype(np.float32), inputs.astype(np.float32)
    ours, inside = filter_weights(np, outputs, inputs, np.float32(pixels), np.float32(scale), cubic=cubic)
    length, factor = torch.tensor(float(pixels)), torch.tensor(scale)
    theirs, within = filter_weights(torch, torch.from_numpy(outputs), torch.from_numpy(inputs), length, factor, cubic=cubic)
    np.testing.assert_array_equal(ours, theirs.numpy())
    np.testing.assert_array_equal(inside, within.numpy())
    assert np.abs(ours[inside].sum(1) - module.WEIGHT_UNIT).max() <= ours.shape[1]  # each weight is rounded once more


def test_canvases_of_many_shapes_equal_those_of_each_image_alone():
    settings = spec(32, interpolation="bicubic")
    shapes = [(40, 30), (32, 32), (30, 40), (40, 30), (500, 375), (40, 30), (32, 32)]
    images = [noise(*shape, 3, seed=index) for index, shape in enumerate(shapes)]
    images[3].flags.writeable = False
    images[5] = images[5][:, ::-1]  # not contiguous
    alone = np.concatenate([make_canvas(image[None], settings) for image in images])
    np.testing.assert_array_equal(make_canvases(images, settings), alone)
    assert len({canvas.tobytes() for canvas in alone}) == len(shapes)


def test_small_images_of_one_shape_are_resized_in_groups_and_large_ones_one_by_one(monkeypatch):
    monkeypatch.setattr(module, "MAX_GROUP_PIXELS", 3 * 40 * 30)
    seen = []
    resized = make_canvas
    monkeypatch.setattr(module, "make_canvas", lambda images, settings: seen.append(images.shape[:3]) or resized(images, settings))
    make_canvases([np.zeros((*shape, 3), np.uint8) for shape in [(40, 30)] * 5 + [(100, 90)] * 2 + [(8, 8)] * 4], spec(32))
    assert sorted(seen) == [(1, 8, 8), (1, 100, 90), (1, 100, 90), (2, 40, 30), (3, 8, 8), (3, 40, 30)]


def test_no_images_give_no_canvases():
    assert make_canvases([], spec(32)).shape == (0, 3, 32, 32)


def test_filters_of_very_long_lines_are_not_kept():
    before = module._cached_line.cache_info().currsize
    module._line(module.MAX_CACHED_PIXELS + 1, 4, 5.0, cubic=False, channels=1)
    assert module._cached_line.cache_info().currsize == before


@pytest.mark.parametrize("values", [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5,), (0.31,))], ids=str)
def test_normalise_gives_the_numbers_of_torch(values):
    settings = Preprocessing(image_size=8, mean=values[0], std=values[1])
    canvases = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), dtype=np.uint8)
    found = normalise(canvases, settings)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, Preprocess(settings).normalise(torch.from_numpy(canvases)).numpy())
