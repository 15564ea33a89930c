from __future__ import annotations

import torch
from torch import Tensor

from cnnkit.config.settings import START_SHARE
from cnnkit.engine.progressive import resized

SIDE = 8


def batches() -> list[tuple[Tensor, Tensor]]:
    return [(torch.rand(4, 3, SIDE, SIDE), torch.arange(4)), (torch.rand(2, 3, SIDE, SIDE), torch.arange(2))]


def sides(start_size: int, done: float) -> set[tuple[int, ...]]:
    return {tuple(images.shape[1:]) for images, _ in resized(batches(), start_size, done)}


def test_images_are_small_for_the_first_share_and_whole_from_then_on() -> None:
    assert sides(6, 0.0) == sides(6, START_SHARE - 1e-6) == {(3, 6, 6)}
    assert sides(6, START_SHARE) == sides(6, 1.0) == {(3, SIDE, SIDE)}


def test_without_a_start_size_nothing_is_touched() -> None:
    given = batches()
    for (images, labels), (before, same) in zip(resized(given, 0, 0.0), given, strict=True):
        assert images is before
        assert labels is same


def test_a_small_image_is_the_average_of_what_it_covers() -> None:
    checks = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(4, 4)[None, None]
    ((small, _),) = resized([(checks, torch.zeros(1, dtype=torch.long))], 4, 0.0)
    assert torch.allclose(small[..., 1:-1, 1:-1], torch.tensor(0.5), atol=1e-6)  # not smoothed, it would be one of the colours
