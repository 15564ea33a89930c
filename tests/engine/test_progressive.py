from __future__ import annotations

import torch
from torch import Tensor

from cnnkit.config.settings import START_SHARE
from cnnkit.engine.progressive import resize

SIZE = 8


def batches() -> list[tuple[Tensor, Tensor]]:
    return [(torch.rand(4, 3, SIZE, SIZE), torch.arange(4)), (torch.rand(2, 3, SIZE, SIZE), torch.arange(2))]


def shapes(start_size: int, done: float) -> set[tuple[int, ...]]:
    return {tuple(images.shape[1:]) for images, _ in resize(batches(), start_size, done)}


def test_images_are_small_up_to_the_start_share_and_of_full_size_after_it() -> None:
    assert shapes(6, 0.0) == shapes(6, START_SHARE - 1e-6) == {(3, 6, 6)}
    assert shapes(6, START_SHARE) == shapes(6, 1.0) == {(3, SIZE, SIZE)}


def test_without_a_start_size_the_batches_pass_unchanged() -> None:
    given = batches()
    for (images, labels), (before, same) in zip(resize(given, 0, 0.0), given, strict=True):
        assert images is before
        assert labels is same


def test_a_small_pixel_is_the_average_of_the_pixels_it_covers() -> None:
    checks = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(4, 4)[None, None]
    ((small, _),) = resize([(checks, torch.zeros(1, dtype=torch.long))], 4, 0.0)
    assert torch.allclose(small[..., 1:-1, 1:-1], torch.tensor(0.5), atol=1e-6)  # without antialiasing it would be 0 or 1
