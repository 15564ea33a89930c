from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image


def test_a_labelled_picture_is_written(cli, image_folder):
    result = cli("preview", image_folder(images=5), "--out", "seen/sheet.png", "--images-per-class", "2", "--variants", "3")
    assert result.code == 0, result.err
    assert "6 images of 3 classes in seen/sheet.png" in result.out
    assert "rotated up to 10°, mirrored left-right, zoomed 0.9 to 1.1, shifted up to 10 %" in result.out
    with Image.open("seen/sheet.png") as picture:
        assert picture.width > 5 * 128
        assert picture.height > 6 * 128
    assert [path.name for path in Path("seen").iterdir()] == ["sheet.png"]


def test_a_page_has_the_same_images_as_a_picture(cli, image_folder):
    assert cli("preview", image_folder(images=1), "--out", "page.html", "--variants", "2").code == 0
    page = Path("page.html").read_text("utf-8")
    assert page.count("<img") == 3 * 4
    for expected in ("ants/ants-000.jpg", "network input", "augmented, epoch 2", "original image"):
        assert expected in page


def test_json_describes_the_picture(cli, image_folder):
    shown = cli("preview", image_folder(images=1), "--json", "--image-size", "16", "--channels", "1", "--flip", "v").json()
    assert shown["preprocessing"]["image_size"] == 16
    assert shown["preprocessing"]["channels"] == 1
    assert shown["augmentation"]["flip"] == "v"
    assert shown["images"][0] == {"path": "ants/ants-000.jpg", "label": "ants"}


def test_the_original_is_left_out_if_the_network_input_equals_it(cli, image_folder):
    folder = image_folder(images=1, size=(32, 32))
    assert cli("preview", folder, "--out", "page.html", "--variants", "1").code == 0
    assert "original image" not in Path("page.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--out", "x.gif"), "--out x.gif: the ending must be one of .png, .html"),
        (("--classes", "ants,bess"), "no such class"),
        (("--zoom", "2,1"), "`--zoom` (=2,1) must be LO,HI"),
        (("--recipe", "fsat"), "--recipe fsat: no such recipe"),
        (("--arch", "custom-cmm"), "did you mean 'custom-cnn'"),
    ],
)
def test_usage_errors(cli, image_folder, flags, said):
    result = cli("preview", image_folder(images=1), *flags)
    assert result.code == 2
    assert said in result.err
    assert not Path("preview.png").exists()


def test_digits_are_not_mirrored(cli):
    result = cli("preview", "digits", "--images-per-class", "1", "--variants", "1")
    assert "no mirroring" in result.err
    assert "mirrored" not in result.out
