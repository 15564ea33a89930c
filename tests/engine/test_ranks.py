from __future__ import annotations

import os
import time

import numpy as np
import pytest
import torch

from cnnkit.engine import ranks as module
from cnnkit.engine.ranks import ONE, Failure, SharedClock, step_seed
from cnnkit.errors import RankLostError


def test_one_process_communicates_nothing():
    values = torch.arange(3.0)
    ONE.sum([values])
    assert values.tolist() == [0, 1, 2]
    assert ONE.agreed(lambda: 7) == 7
    assert ONE.share(b"abc") == b"abc"
    assert ONE.joined(np.arange(3)).tolist() == [0, 1, 2]
    assert ONE.part(np.arange(3)).tolist() == [0, 1, 2]
    assert ONE.is_first
    assert not ONE.several


def test_the_ranks_agree_add_up_and_join(run_ranks, monkeypatch):
    monkeypatch.setattr(module, "MAX_BUCKET_NUMEL", 4)  # so that the tensors need several sums

    def work(ranks):
        tensors = [
            torch.full((2, 3), ranks.rank + 1.0),
            torch.tensor([ranks.rank]),
            torch.full((3,), 1.0),
            torch.ones(1, dtype=torch.float64),
        ]
        ranks.sum(tensors)
        agreed = ranks.agreed(lambda: {"rank": ranks.rank})
        rows = ranks.part(np.arange(7) * 10)
        return [tensor.tolist() for tensor in tensors], agreed, rows.tolist(), ranks.joined(rows).tolist(), ranks.share(bytes([ranks.rank]))

    found = run_ranks(3, work)
    for sums, agreed, _, _, shared in found:
        assert sums == [[[6.0] * 3] * 2, [3], [3.0] * 3, [3.0]]
        assert agreed == {"rank": 0}
        assert shared == b"\0"
    assert [rows for _, _, rows, _, _ in found] == [[0, 10, 20], [30, 40], [50, 60]]
    assert found[0][3] == [0, 10, 20, 30, 40, 50, 60]


def test_the_first_rank_of_each_machine_comes_before_its_others(run_ranks, tmp_path):
    def work(ranks):
        with ranks.machine_first():
            if not ranks.local:
                time.sleep(0.3)
                (tmp_path / ranks.machine).touch()
            return (tmp_path / ranks.machine).exists()

    assert run_ranks(4, work, local_world=2) == [True] * 4
    assert len(list(tmp_path.iterdir())) == 2


def test_all_ranks_read_the_clock_of_rank_0(run_ranks):
    def work(ranks):
        clock = SharedClock(ranks, lambda: 100.0 * ranks.rank + 1)
        first = clock()
        clock.set(*ranks.totals([clock.own_reading()]))
        return first, clock()

    assert run_ranks(2, work) == [(1.0, 1.0)] * 2


def test_a_clock_of_one_process_moves_by_itself():
    readings = iter(range(5))
    clock = SharedClock(ONE, lambda: next(readings))
    clock.tick()
    assert [clock(), clock()] == [0, 1]


def test_a_rank_that_dies_is_named_by_the_others(run_ranks, monkeypatch):
    monkeypatch.setattr(module, "CAUSE_SECONDS", 0.3)
    monkeypatch.setattr(module, "SURVIVOR_SECONDS", 1.0)

    def work(ranks):
        ranks.totals([1])
        if ranks.rank == 1:
            os._exit(9)
        ranks.totals([1])

    first, died, last = run_ranks(3, work)
    assert died == 9
    for error in (first, last):
        assert isinstance(error, RankLostError)
        assert str(error).startswith("rank 1 of 3 ended without a word: killed")
        assert (error.exit_code, error.reported) == (3, False)


@pytest.mark.parametrize("waiting", ["sum", "agreed"])
def test_the_other_ranks_take_the_exit_code_of_the_first_failure(run_ranks, waiting):
    def work(ranks):
        ranks.totals([1])
        if not ranks.is_first:
            ranks.totals([1]) if waiting == "sum" else ranks.agreed(lambda: 0)
            return
        assert ranks.board.claim(Failure(0, 2)) == Failure(0, 2)
        assert ranks.board.claim(Failure(5, 3)) == Failure(0, 2), "the first failure stays"
        torch.distributed.destroy_process_group()
        time.sleep(3)
        os._exit(2)

    died, error = run_ranks(2, work)
    assert died == 2
    assert isinstance(error, RankLostError)
    assert (error.exit_code, error.reported) == (2, True)


def test_an_error_of_the_work_itself_is_no_lost_rank(run_ranks):
    def work(ranks):
        ranks.sum([torch.ones(1), "no tensor"])  # type: ignore[list-item]

    for error in run_ranks(2, work):
        assert isinstance(error, AttributeError)


def test_each_step_of_each_rank_has_its_own_seed():
    seeds = {step_seed(seed, epoch, step, rank) for seed in range(2) for epoch in range(3) for step in range(4) for rank in range(3)}
    assert len(seeds) == 72
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert step_seed(1, 2, 3, 0) == step_seed(1, 2, 3, 0)
