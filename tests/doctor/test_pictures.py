from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cnnkit.doctor.pictures import blurred, constant, odd_aspect, tiny


def test_a_thumbnail_among_photographs_is_tiny(image, evidence) -> None:
    images = [image() for _ in range(199)] + [image(path="a/icon.jpg", width=40, height=30)]
    finding = tiny(evidence(images))
    assert finding is not None
    assert finding.files == (("a/icon.jpg",),)
    assert finding.severity == "note"
    assert (
        "the smallest has 30 px on the shorter side, while half of the images have at least 375 px. Training enlarges them;"
        in finding.message
    )


def test_a_known_input_size_decides(image, evidence) -> None:
    images = [image() for _ in range(199)] + [image(path="a/small.jpg", width=120, height=100)]
    assert tiny(evidence(images)) is None
    assert tiny(evidence(images, image_size=200)) is None
    finding = tiny(evidence(images, image_size=224))
    assert finding is not None
    assert "the network sees 224 px" in finding.message


def test_data_of_small_images_gets_one_note(image, evidence) -> None:
    images = [image(width=32, height=32) for _ in range(100)]
    assert tiny(evidence(images)) is None
    finding = tiny(evidence(images, image_size=224))
    assert finding is not None
    assert (finding.severity, finding.files) == ("note", ())
    assert "Half of the images have at most 32 px on their shorter side and are enlarged. --image-size 32" in finding.message


def test_a_large_part_of_a_class_with_tiny_images_is_a_warning(image, evidence) -> None:
    few = [image() for _ in range(195)] + [image("bees") for _ in range(5)]
    small = [image("bees", width=20, height=20)]
    finding = tiny(evidence(few + small))
    assert finding is not None
    assert finding.severity == "warning"


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"mean": 90.0, "std": 0.0}, "1 of one colour"),
        ({"mean": 5.0, "std": 6.0}, "1 nearly black"),
        ({"mean": 250.0, "std": 7.0}, "1 nearly white"),
    ],
)
def test_images_without_a_picture_are_found(facts, kind, image, evidence) -> None:
    finding = constant(evidence([*(image() for _ in range(199)), image(path="a/x.jpg", **facts)]))
    assert finding is not None
    assert finding.files == (("a/x.jpg",),)
    assert kind in finding.message


def test_dim_and_bright_pictures_are_pictures(image, evidence) -> None:
    assert constant(evidence([image(mean=8.0, std=20.0), image(mean=250.0, std=25.0), image(mean=120.0, std=3.0)])) is None


def test_an_unreadable_file_is_not_called_constant(image, evidence) -> None:
    assert constant(evidence([image(error="the file is empty", mean=0.0, std=0.0), image()])) is None


def test_a_blurred_photograph_is_found_among_sharp_ones(tmp_path, collect) -> None:
    folder = tmp_path / "photographs"
    random = np.random.default_rng(0)
    for row in range(20):  # fine texture over large shapes, which survive a blur
        file = folder / "bees" / f"bees-{row:03d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        shapes = Image.fromarray(random.integers(0, 256, (6, 8, 3)).astype(np.uint8)).resize((200, 150), Image.Resampling.BICUBIC)
        Image.fromarray((np.asarray(shapes) + random.normal(0, 15, (150, 200, 3))).clip(0, 255).astype(np.uint8)).save(file)
    assert blurred(collect(folder)) is None
    soft = folder / "bees" / "bees-004.jpg"
    Image.open(soft).filter(ImageFilter.GaussianBlur(4)).save(soft)
    finding = blurred(collect(folder))
    assert finding is not None
    assert finding.files == (("bees/bees-004.jpg",),)


def test_a_class_of_soft_images_is_judged_by_its_own_median(image, evidence) -> None:
    images = [image("ants") for _ in range(60)] + [image("fog", sharpness=0.12) for _ in range(20)]
    assert blurred(evidence(images)) is None
    finding = blurred(evidence([*images, image("fog", path="fog/x.jpg", sharpness=0.02)]))
    assert finding is not None
    assert finding.files == (("fog/x.jpg",),)


def test_small_images_are_not_called_blurred(image, evidence) -> None:
    images = [image(width=32, height=32) for _ in range(30)] + [image(width=32, height=32, sharpness=0.05)]
    assert blurred(evidence(images)) is None


def test_panoramas_recommend_pad_instead_of_crop(image, evidence) -> None:
    images = [image() for _ in range(60)] + [image(width=900, height=300, path=f"a/pano{i}.jpg") for i in range(40)]
    finding = odd_aspect(evidence(images))
    assert finding is not None
    assert finding.severity == "warning"
    assert len(finding.files) == 40
    assert "loses 67 % of their pixels (42 % over all images)" in finding.message
    assert "--resize-mode pad" in finding.message


def test_equal_shapes_recommend_squash(image, evidence) -> None:
    finding = odd_aspect(evidence([image(width=900, height=300) for _ in range(40)]))
    assert finding is not None
    assert "--resize-mode squash" in finding.message


def test_usual_photographs_are_not_odd(image, evidence) -> None:
    images = [image(width=width, height=height) for width, height in ((640, 480), (600, 400), (1920, 1080), (480, 640), (300, 300))]
    assert odd_aspect(evidence(images)) is None


def test_a_single_panorama_among_many_photographs_is_a_note(image, evidence) -> None:
    finding = odd_aspect(evidence([*(image() for _ in range(50)), image(width=100, height=500)]))
    assert finding is not None
    assert finding.severity == "note"


def test_unreadable_images_alone_do_not_crash_a_check(image, evidence) -> None:
    found = evidence([image(error="the file is empty", width=0, height=0, std=0.0)])
    assert [check(found) for check in (tiny, constant, blurred, odd_aspect)] == [None] * 4
    assert np.array_equal(found.readable, [])
