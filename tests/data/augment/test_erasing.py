from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnkit.data.augment.erasing import AREA_RANGE, ASPECT_RANGE, erase, rectangles

SIZE = 64


def noise(count: int, size: int = SIZE) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, size, size), np.uint8))


def numbers(count: int, **chosen: float) -> Tensor:
    draws = torch.rand((count, 5), generator=torch.Generator().manual_seed(0))
    for name, value in chosen.items():
        draws[:, ["happens", "area", "aspect", "across", "down"].index(name)] = value
    return draws


def holes(images: Tensor, got: Tensor) -> NDArray[np.int64]:
    """Return top, bottom, left and right (N, 4) of the erased rectangles, zeros for an image without a hole.

    A pixel of a hole may have had the mean level before in one channel, so the channels are compared together.
    """
    found: list[list[int]] = []
    for hidden in (got != images).any(1).numpy():
        rows, columns = np.flatnonzero(hidden.any(1)), np.flatnonzero(hidden.any(0))
        box = [rows[0], rows[-1] + 1, columns[0], columns[-1] + 1] if len(rows) else [0, 0, 0, 0]
        assert hidden.sum() == (box[1] - box[0]) * (box[3] - box[2]), "not a filled rectangle"
        found.append([int(edge) for edge in box])
    return np.array(found)


@pytest.mark.parametrize("draw", [0.0, 0.25, 0.5, 1.0])
def test_the_area_is_the_drawn_share(draw: float) -> None:
    images = noise(50)
    top, bottom, left, right = holes(images, erase(images, numbers(50, happens=0.0, area=draw), 1.0)).T
    share = AREA_RANGE[0] + draw * (AREA_RANGE[1] - AREA_RANGE[0])
    np.testing.assert_allclose((bottom - top) * (right - left) / SIZE**2, share, atol=share * 0.12)  # whole pixels
    assert 0.02 <= share <= 0.33


def test_tall_is_as_likely_as_wide_within_the_papers_limits() -> None:
    images = noise(400)
    top, bottom, left, right = holes(images, erase(images, numbers(400, happens=0.0, area=0.7), 1.0)).T
    aspect = (bottom - top) / (right - left)
    assert 0.28 <= aspect.min() < 0.4
    assert 2.5 < aspect.max() <= 1.05 / 0.28
    assert 170 < (aspect > 1).sum() < 230
    assert pytest.approx(0.3) == ASPECT_RANGE[0]


def test_the_largest_hole_still_fits_into_the_image() -> None:
    """A third of the image at an aspect of 0.3 would be wider than the image."""
    images = noise(2)
    for aspect in (0.0, 1.0):
        top, bottom, left, right = holes(images, erase(images, numbers(2, happens=0.0, area=1.0, aspect=aspect), 1.0)).T
        longer = np.maximum(bottom - top, right - left)
        assert (longer == SIZE).all()
        np.testing.assert_allclose((bottom - top) * (right - left) / SIZE**2, 0.33, atol=0.01)


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.6, 1.0])
def test_the_share_of_images_is_the_probability(probability: float) -> None:
    images, draws = noise(1, 8).expand(2000, -1, -1, -1), numbers(2000)
    changed = (erase(images, draws, probability) != images).flatten(1).any(1)
    assert torch.equal(changed, draws[:, 0] < probability)
    assert float(changed.float().mean()) == pytest.approx(probability, abs=0.04)


def test_holes_reach_every_border_and_never_leave_the_image() -> None:
    just_below_one = 1 - 2.0**-24
    images = noise(1)
    for across, down, at_end in ((0.0, 0.0, False), (just_below_one, just_below_one, True)):
        hole = holes(images, erase(images, numbers(1, happens=0.0, area=0.4, aspect=0.5, across=across, down=down), 1.0))[0]
        length = round(SIZE * (AREA_RANGE[0] + 0.4 * (AREA_RANGE[1] - AREA_RANGE[0])) ** 0.5)
        start = SIZE - length if at_end else 0
        assert (hole[0], hole[2]) == (start, start)
        assert (hole[1] - hole[0], hole[3] - hole[2]) == (length, length)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_filling_is_the_mean_of_the_image_per_colour(dtype: torch.dtype) -> None:
    images = torch.stack([noise(1)[0] // 4, 255 - noise(1)[0] // 4]).to(dtype)
    got = erase(images, numbers(2, happens=0.0), 1.0)
    assert got.dtype == dtype
    for image, result, box in zip(images, got, holes(images, got), strict=True):
        filling = result[:, box[0] : box[1], box[2] : box[3]].float().flatten(1)
        assert torch.equal(filling.amin(1), filling.amax(1))
        torch.testing.assert_close(filling[:, 0], image.float().mean((1, 2)), rtol=0, atol=0.501 if dtype == torch.uint8 else 1e-3)


def test_images_of_a_batch_have_different_holes() -> None:
    images = noise(20)
    boxes = holes(images, erase(images, numbers(20, happens=0.0), 1.0))
    assert len({tuple(box) for box in boxes.tolist()}) == 20


def test_rectangles_equal_slices() -> None:
    edges = torch.tensor([[0, 2, 1, 3], [4, 5, 0, 6], [3, 3, 2, 4]]).T
    masks = rectangles(edges[0], edges[1], edges[2], edges[3], 5, 6)
    assert (masks.shape, masks.dtype) == ((3, 1, 5, 6), torch.bool)
    expected = torch.zeros(3, 1, 5, 6, dtype=torch.bool)
    expected[0, :, 0:2, 1:3] = expected[1, :, 4:5, 0:6] = True
    assert torch.equal(masks, expected)
