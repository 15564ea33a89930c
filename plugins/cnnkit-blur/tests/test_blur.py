"""Tests of the plugin: it keeps the contract, an installed cnnkit finds it, and torchvision computes the same."""

from __future__ import annotations

import pytest
import torch
from cnnkit_blur import apply, blur
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from cnnkit.registry import AUGMENTATION_KIND, load_extension
from cnnkit.testing import check_augmentation


def draw(n: int = 4, size: int = 32) -> Tensor:
    """Return images (n, 3, size, size) with levels from 0 to 255."""
    return (256 * torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))).floor()


def test_blur_keeps_the_contract() -> None:
    check_augmentation(blur, "blur")


def test_cnnkit_finds_blur_by_name() -> None:
    found = load_extension(AUGMENTATION_KIND, "blur:sigma=2")
    assert found.value.summary == blur.summary
    assert (found.entry.package, found.options) == ("cnnkit-blur", {"sigma": 2.0, "probability": 0.5})


def test_torchvision_computes_the_same() -> None:
    images, widths = draw(), torch.tensor([0.25, 0.5, 0.75, 0.99])
    found = apply(images, torch.stack([torch.zeros(4), widths], 1), sigma=2.0, probability=1.0)
    for image, blurred, width in zip(images, found, widths, strict=True):
        expected = gaussian_blur(image, [13, 13], [0.1 + 1.9 * float(width)] * 2)
        torch.testing.assert_close(blurred, expected, rtol=1e-4, atol=1e-2)


def test_an_image_that_is_not_drawn_stays_as_it_is() -> None:
    images = draw()
    found = apply(images, torch.tensor([[0.2, 0.9], [0.6, 0.9], [0.49, 0.9], [0.5, 0.9]]), probability=0.5)
    assert [torch.equal(*pair) for pair in zip(images, found, strict=True)] == [False, True, False, True]


def test_the_pixels_of_an_image_are_bit_equal_in_every_batch() -> None:
    images, draws = draw(7), torch.rand(7, 2, generator=torch.Generator().manual_seed(1))
    whole = apply(images, draws)
    assert all(torch.equal(apply(images[i : i + 1], draws[i : i + 1])[0], whole[i]) for i in range(7))


@pytest.mark.parametrize(
    ("options", "message"), [({"sigma": 0.0}, "sigma=0 must be from 0.1 to 100"), ({"probability": 2.0}, "from 0 to 1")]
)
def test_wrong_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        apply(draw(), torch.zeros(4, 2), **options)
