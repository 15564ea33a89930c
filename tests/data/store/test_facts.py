from __future__ import annotations

import hashlib
import io
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFilter

from cnnkit.data.image import Header, UndecodableError
from cnnkit.data.store.facts import LOOK_SIZE, PROBE_SIZE, THUMBNAIL_SIZE, DecodedImage, decode, measure


def encoded(image: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def of_pixels(image: np.ndarray) -> DecodedImage:
    return decode(image)


def test_a_file_is_decoded_and_identified_by_its_bytes() -> None:
    data = encoded(noise(20, 30), "JPEG", quality=80)
    item = decode(data)
    assert item.image.shape == (20, 30, 3)
    assert (item.sha256, item.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert (item.header.format, item.header.mode, item.header.quality) == ("JPEG", "RGB", 80)


def test_pixels_stay_unchanged_and_are_identified_by_shape_and_content() -> None:
    image = noise(4, 6)
    item = decode(image)
    assert item.image is image
    assert (item.bytes, item.header) == (0, Header(width=6, height=4))
    assert item.sha256 == decode(image.copy()).sha256
    assert item.sha256 != decode(np.ascontiguousarray(image.reshape(6, 4, 3))).sha256


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_pixels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UndecodableError, match=r"pixels of shape .* expected uint8 RGB \(H, W, 3\)"):
        decode(np.zeros(shape, np.uint8))
    with pytest.raises(UndecodableError, match="type float32"):
        decode(np.zeros((4, 4, 3), np.float32))  # pyright: ignore[reportArgumentType]


def test_a_broken_file_is_refused() -> None:
    with pytest.raises(UndecodableError, match="the file is empty"):
        decode(b"")


def test_facts_tell_size_light_and_header() -> None:
    image = np.full((40, 60, 3), (100, 150, 200), np.uint8)
    image[:, 30:] = (200, 150, 100)
    (facts,), *_ = measure([decode(encoded(image))])
    left, right = 0.299 * 100 + 0.587 * 150 + 0.114 * 200, 0.299 * 200 + 0.587 * 150 + 0.114 * 100
    assert (facts.height, facts.width, facts.error, facts.format) == (40, 60, "", "PNG")
    assert facts.mean == pytest.approx((left + right) / 2, abs=0.01)
    assert facts.std == pytest.approx((right - left) / 2, abs=0.01)


def test_a_constant_image_has_neither_contrast_nor_sharpness() -> None:
    (facts,), *_ = measure([of_pixels(np.full((50, 50, 3), 7, np.uint8))])
    assert (facts.mean, facts.std, facts.sharpness) == (7.0, 0.0, 0.0)


def test_a_blurred_image_is_less_sharp_and_an_image_of_another_contrast_is_as_sharp() -> None:
    image = noise(120, 120)
    blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(3)))
    pale = (image // 2 + 64).astype(np.uint8)
    (sharp, soft, faint), *_ = measure([of_pixels(item) for item in (image, blurred, pale)])
    assert soft.sharpness < sharp.sharpness / 10
    assert faint.sharpness == pytest.approx(sharp.sharpness, rel=0.02)


def test_thumbnails_are_area_averages() -> None:
    image = noise(2 * THUMBNAIL_SIZE, 3 * THUMBNAIL_SIZE)
    _, (thumbnail,), _ = measure([of_pixels(image)])
    blocks = image.reshape(THUMBNAIL_SIZE, 2, THUMBNAIL_SIZE, 3, 3).mean((1, 3))
    np.testing.assert_allclose(thumbnail, blocks, atol=0.5001)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (5, 5), (PROBE_SIZE * 3 + 7, 31)])
def test_any_size_has_a_thumbnail_of_its_mean_colour(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), (10, 120, 250), np.uint8)
    (facts,), (thumbnail,), (look,) = measure([of_pixels(image)])
    assert (facts.height, facts.width) == shape
    assert (thumbnail == (10, 120, 250)).all()
    assert (look == round(0.299 * 10 + 0.587 * 120 + 0.114 * 250)).all()


def test_images_of_several_sizes_are_measured_like_single_images() -> None:
    images = [noise(20, 20, 1), noise(30, 20, 2), noise(20, 20, 3), noise(700, 300, 4)]
    together, thumbnails, looks = measure([of_pixels(image) for image in images])
    for row, image in enumerate(images):
        (alone,), (thumbnail,), (look,) = measure([of_pixels(image)])
        assert together[row] == alone
        np.testing.assert_array_equal(thumbnails[row], thumbnail)
        np.testing.assert_array_equal(looks[row], look)


def test_no_images_have_no_facts() -> None:
    facts, thumbnails, looks = measure([])
    assert facts == []
    assert thumbnails.shape == (0, THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3)
    assert looks.shape == (0, LOOK_SIZE, LOOK_SIZE)


def test_a_sharp_object_before_a_soft_background_is_sharp() -> None:
    background = np.asarray(Image.fromarray(noise(200, 200)).filter(ImageFilter.GaussianBlur(12)))
    with_object = background.copy()
    with_object[100:150, 100:150] = noise(50, 50)
    soft, sharp = measure([of_pixels(background), of_pixels(with_object)])[0]
    assert sharp.sharpness > 20 * soft.sharpness


def test_a_mask_has_few_tones_and_a_photograph_many() -> None:
    mask = np.zeros((100, 120, 3), np.uint8)
    mask[20:60, 30:70] = 255
    jpeg = decode(encoded(mask, "JPEG", quality=90))
    labels = np.repeat(np.array([0, 64, 128, 192], np.uint8), 30)[None, :, None] * np.ones((100, 1, 3), np.uint8)
    facts = measure([of_pixels(mask), jpeg, of_pixels(labels), of_pixels(noise(100, 120))])[0]
    assert [item.tones for item in facts[:3]] == [2, 2, 4]
    assert facts[3].tones > 15
    assert measure([of_pixels(np.zeros((1, 1, 3), np.uint8))])[0][0].tones == 1


def test_the_time_of_the_exposure_is_a_fact() -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.DateTimeOriginal: "2020:05:17 12:30:01", ExifTags.Base.SubsecTimeOriginal: "25"})
    facts = measure([decode(encoded(noise(9, 9), "JPEG", exif=exif)), decode(encoded(noise(9, 9), "JPEG"))])[0]
    assert facts[0].taken == datetime(2020, 5, 17, 12, 30, 1, 250_000, UTC).timestamp()
    assert facts[1].taken == 0


@pytest.mark.parametrize("text", ["", "yesterday", "0000:00:00 00:00:00", "1969:01:01 00:00:00"])
def test_a_damaged_time_is_none(text: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = text
    assert measure([decode(encoded(noise(9, 9), "JPEG", exif=exif))])[0][0].taken == 0
