from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from sklearn.datasets import load_sample_image
from torchvision.transforms.v2 import InterpolationMode, functional

from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import PAD_LEVEL, Preprocessing


def preprocess(size: int, **settings) -> Preprocess:
    channels = settings.get("channels", 3)
    return Preprocess(Preprocessing(image_size=size, mean=(0.5,) * channels, std=(0.25,) * channels, **settings))


@pytest.fixture(params=["china.jpg", "flower.jpg"])
def photo(request) -> torch.Tensor:
    """Return a real photograph, uint8 (1, 427, 640, 3)."""
    return torch.tensor(load_sample_image(request.param))[None]


def noise(height: int, width: int, count: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(height * width))


@pytest.mark.parametrize("size", [32, 100, 224, 800])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_squash_equals_the_antialiased_resize_of_torchvision(photo, size, interpolation):
    ours = preprocess(size, resize_mode="squash", interpolation=interpolation).canvas(photo)
    theirs = functional.resize(photo.permute(0, 3, 1, 2), [size, size], InterpolationMode(interpolation), antialias=True)
    difference = (ours.int() - theirs.int()).abs()
    assert difference.max() <= 2  # one level per pass, where a cubic enlarges
    assert difference.float().mean() < 0.02


def test_squash_equals_the_resize_of_pillow(photo):
    ours = preprocess(96, resize_mode="squash", interpolation="bicubic").canvas(photo)
    theirs = Image.fromarray(photo[0].numpy()).resize((96, 96), Image.Resampling.BICUBIC)
    difference = np.abs(ours[0].permute(1, 2, 0).numpy().astype(int) - np.asarray(theirs))
    assert difference.max() <= 1
    assert difference.mean() < 0.02


def test_crop_keeps_the_middle_of_the_short_side_resize(photo):
    ours = preprocess(61, interpolation="bilinear", crop=1.0).canvas(photo[:, :, : 427 + 2 * 42])
    theirs = functional.resize(photo[:, :, 42 : 427 + 42].permute(0, 3, 1, 2), [61, 61], antialias=True)
    inner = (ours.int() - theirs.int()).abs()[..., 2:-2]  # at the left and right edge, ours also reads pixels outside the crop
    assert inner.max() <= 1


def test_crop_share_zooms_into_the_centre():
    image = torch.zeros((1, 100, 100, 3), dtype=torch.uint8)
    image[:, 25:75, 25:75] = 200
    assert (preprocess(50, crop=0.5).canvas(image) == 200).all()
    assert (preprocess(50, crop=1.0).canvas(image) == 0).any()


@pytest.mark.parametrize("mode", ["crop", "pad", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_an_image_of_the_right_size_passes_bit_by_bit(mode, interpolation):
    images = noise(32, 32, count=5)
    module = preprocess(32, resize_mode=mode, interpolation=interpolation)
    expected = images.permute(0, 3, 1, 2)
    assert torch.equal(module.canvas(images), expected)
    assert torch.equal(module.resample(images), expected.float())  # as in the exported graph


@pytest.mark.parametrize(("shape", "rows", "columns"), [((50, 100), (8, 24), (0, 32)), ((100, 50), (0, 32), (8, 24))])
def test_pad_centres_the_whole_image_in_gray(shape, rows, columns):
    canvas = preprocess(32, resize_mode="pad").canvas(torch.full((1, *shape, 3), 7, dtype=torch.uint8))
    expected = torch.full((1, 3, 32, 32), int(PAD_LEVEL), dtype=torch.uint8)
    expected[:, :, slice(*rows), slice(*columns)] = 7
    assert torch.equal(canvas, expected)


@pytest.mark.parametrize("shape", [(1, 1000), (1000, 1), (2, 999)])
@pytest.mark.parametrize("size", [31, 32])
def test_pad_never_loses_a_thin_image(shape, size):
    canvas = preprocess(size, resize_mode="pad").canvas(torch.full((1, *shape, 3), 250, dtype=torch.uint8))
    assert (canvas == 250).any()


@pytest.mark.parametrize("mode", ["crop", "pad", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (7, 5), (33, 31), (640, 427), (3000, 2)])
def test_a_flat_image_stays_flat(mode, interpolation, shape):
    for level in (0, 1, 128, 255):
        canvas = preprocess(32, resize_mode=mode, interpolation=interpolation).canvas(torch.full((1, *shape, 3), level, dtype=torch.uint8))
        assert set(canvas.unique().tolist()) <= ({level, int(PAD_LEVEL)} if mode == "pad" else {level})


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_whole_filter_weights_make_the_order_of_summation_irrelevant(photo, interpolation):
    module = preprocess(48, interpolation=interpolation)
    alone = module.canvas(photo)
    batch = module.canvas(torch.cat([photo.flip(1), photo, photo.flip(2)]))
    assert torch.equal(batch[1:2], alone)
    double = module.resample(photo.double())  # accumulates in another precision
    assert torch.equal(double.to(torch.uint8), alone)


def test_one_channel_equals_the_gray_of_pillow():
    images = noise(32, 32)
    gray = Image.fromarray(images[0].numpy()).convert("L")
    assert torch.equal(preprocess(32, channels=1).canvas(images)[0, 0], torch.tensor(np.asarray(gray)))


def test_normalise_subtracts_the_mean_and_divides_by_the_std_per_channel():
    module = Preprocess(Preprocessing(image_size=2, mean=(0.0, 0.2, 0.4), std=(1.0, 0.5, 0.25)))
    images = module(torch.full((1, 2, 2, 3), 51, dtype=torch.uint8))
    assert images.dtype == torch.float32
    torch.testing.assert_close(images[0, :, 0, 0], torch.tensor([0.2, 0.0, -0.8]))


def test_unknown_settings_are_refused():
    with pytest.raises(ValidationError, match="resize_mode"):
        preprocess(32, resize_mode="stretch")
    with pytest.raises(ValidationError, match="crop"):
        preprocess(32, crop=0)
    with pytest.raises(ValidationError, match="sharpen"):
        preprocess(32, sharpen=True)
