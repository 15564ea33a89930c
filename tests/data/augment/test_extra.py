"""The random numbers of augmentations of other packages: a stream of their own, whatever others are in use."""

from __future__ import annotations

import numpy as np
import torch

from cnnkit.data.augment.augment import NUM_DRAWS, PRESETS, augment, draw_numbers
from cnnkit.data.augment.extra import ExtraAugmentation

KEYS = np.arange(6)
DARK = ExtraAugmentation("acme:dark", 1, lambda images, draws: images * draws[:, :, None, None])
ADD = ExtraAugmentation("acme:add", 2, lambda images, draws: images + draws.sum(1)[:, None, None, None])


def test_the_numbers_do_not_depend_on_order_batch_or_other_augmentations() -> None:
    both, swapped = draw_numbers(3, 2, KEYS, (DARK, ADD)), draw_numbers(3, 2, KEYS[::-1], (ADD, DARK))[::-1]
    assert both.shape == (6, NUM_DRAWS + 3)
    assert (both[:, :NUM_DRAWS] == draw_numbers(3, 2, KEYS)).all()
    assert (both[:, NUM_DRAWS] == swapped[:, -1]).all()
    assert (both[:, NUM_DRAWS + 1 :] == swapped[:, NUM_DRAWS:-1]).all()
    assert (both[:, NUM_DRAWS] != both[:, NUM_DRAWS + 1]).all()


def test_the_numbers_change_with_seed_and_epoch() -> None:
    numbers = [draw_numbers(seed, epoch, KEYS, (DARK,))[:, NUM_DRAWS] for seed, epoch in ((0, 1), (0, 2), (1, 1))]
    assert len(np.unique(np.concatenate(numbers))) == 18


def test_they_are_applied_in_their_order_before_erasing() -> None:
    images = torch.full((6, 1, 8, 8), 100, dtype=torch.uint8)
    draws = torch.from_numpy(draw_numbers(0, 1, KEYS, (DARK, ADD)))
    dark, add = draws[:, NUM_DRAWS], draws[:, NUM_DRAWS + 1 :].sum(1)
    found = augment(images, draws, PRESETS["none"], (DARK, ADD))
    torch.testing.assert_close(found[:, 0, 0, 0], 100 * dark + add)
