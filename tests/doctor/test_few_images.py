from __future__ import annotations

import pytest

from cnnkit.doctor import few_images
from cnnkit.doctor.few_images import ENOUGH_IMAGES, STARTS, few_images_note


@pytest.fixture
def installed(monkeypatch):
    """Return a function that sets the names of the installed architectures."""
    return lambda *names: monkeypatch.setattr(few_images, "find", lambda _: dict.fromkeys(names))


def note(data: str = "photos", *, images: int = 60, classes: int = 2, image_size: int = 224) -> str:
    return few_images_note(data, images=images, classes=classes, image_size=image_size)


def test_the_note_has_the_command_and_its_download(installed):
    installed("custom-cnn", "timm")
    assert note("my photos") == (
        "train has 30 images per class, and under 500 a network learns more from ImageNet's weights than from scratch; this command "
        "downloads 47 MB once: cnnkit train --data 'my photos' --arch timm/resnet18 --weights pretrained"
    )


def test_installed_weights_come_first_and_download_nothing(installed):
    installed("lite", "timm")
    assert note().endswith(
        "downloads nothing, because the weights are installed: cnnkit train --data photos --arch lite/0 --weights pretrained"
    )


def test_enough_images_need_no_note(installed):
    installed("timm")
    assert note(images=2 * ENOUGH_IMAGES) == ""
    assert note(images=2 * ENOUGH_IMAGES - 2).startswith(f"train has {ENOUGH_IMAGES - 1} images per class")


def test_small_images_get_no_weights_of_large_ones(installed):
    installed("timm")
    assert note(image_size=64) == ""
    assert note(image_size=65)


def test_no_architecture_with_weights_gives_no_note(installed):
    installed("custom-cnn")
    assert note() == ""


def test_the_download_is_the_size_of_the_weights():
    from cnnkit.registry import load_architecture

    architecture, _ = load_architecture(STARTS[-1].arch)
    parameters = sum(each.numel() for each in architecture.build(1000, 3).parameters())
    assert f"{parameters * 4 / 1e6:.0f} MB once" == STARTS[-1].download
