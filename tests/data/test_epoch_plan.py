from __future__ import annotations

import threading

import numpy as np
import torch

from cnnkit.data.augment.mixing import draw_mixture
from cnnkit.data.augment.randomness import uniform
from cnnkit.data.epoch_plan import EpochPlan, PlansAhead


def plan(number: int, *, mixed: bool = False) -> EpochPlan:
    draws = uniform(0, number, np.arange(6), 4)
    mixture = draw_mixture(draws, mixup=0.4, cutmix=1.0, height=8, width=8) if mixed else None
    return EpochPlan(np.arange(6) + 10 * number, torch.arange(6), torch.from_numpy(draws), mixture)


def test_a_part_has_the_numbers_of_its_samples() -> None:
    whole = plan(1, mixed=True)
    part = whole.part(2, 5)
    assert part.rows.tolist() == [12, 13, 14]
    assert part.labels.tolist() == [2, 3, 4]
    assert whole.draws is not None
    assert part.draws is not None
    assert torch.equal(part.draws, whole.draws[2:5])
    alone = draw_mixture(whole.draws[2:5].numpy(), mixup=0.4, cutmix=1.0, height=8, width=8)
    assert part.mixture is not None
    for name, value in vars(part.mixture).items():
        assert torch.equal(value, getattr(alone, name)), name


def test_a_plan_without_random_numbers_has_parts_too() -> None:
    part = EpochPlan(np.arange(4), torch.arange(4), None, None).to(torch.device("cpu")).part(1, 2)
    assert (part.rows.tolist(), part.draws, part.mixture) == ([1], None, None)


def test_a_plan_moves_to_a_device() -> None:
    moved = plan(1, mixed=True).to(torch.device("meta"))
    assert moved.draws is not None
    assert moved.mixture is not None
    tensors = (moved.labels, moved.draws, *vars(moved.mixture).values())
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.rows.tolist() == [10, 11, 12, 13, 14, 15]  # the host looks the canvases up


def test_the_plan_of_the_next_epoch_is_made_by_a_thread_and_any_epoch_may_be_asked() -> None:
    made: list[tuple[int, bool]] = []

    def make(number: int) -> EpochPlan:
        made.append((number, threading.current_thread() is threading.main_thread()))
        return plan(number)

    ahead = PlansAhead(make)
    asked = [int(ahead.take(number).rows[0]) for number in (1, 2, 5, 5)]
    assert asked == [10, 20, 50, 50]
    ahead._thread.shutdown(wait=True)
    assert [number for number, main in made if main] == [1, 5, 5]
    assert sorted(number for number, main in made if not main) == [2, 3, 6, 6]
