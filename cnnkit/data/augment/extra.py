"""Augmentations of other packages, and their random numbers: a stream of its own for each, whatever others are in use."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnkit.data.augment.randomness import uniform

MAX_SEED = 2**31


@dataclass(frozen=True)
class ExtraAugmentation:
    """An augmentation of another package: `apply` maps images and draws (n, `num_draws`) to images; `name` is that of its stream."""

    name: str
    num_draws: int
    apply: Callable[[Tensor, Tensor], Tensor]


def extra_numbers(extra: Sequence[ExtraAugmentation], seed: int, epoch: int, keys: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    """Return the random numbers (N, D) in [0, 1) of each augmentation, as `cnnkit.data.augment.randomness.uniform` does."""
    return [uniform(_stream(each.name, seed), epoch, keys, each.num_draws) for each in extra]


def apply_extra(images: Tensor, draws: Tensor, extra: Sequence[ExtraAugmentation]) -> Tensor:
    """Return `images` after each of the augmentations; `draws` (N, sum of D) are their numbers side by side."""
    start = 0
    for each in extra:
        images = each.apply(images.to(torch.float32), draws[:, start : start + each.num_draws])
        start += each.num_draws
    return images


def _stream(name: str, seed: int) -> int:
    """Return the seed of the stream `name`."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "little") % MAX_SEED
