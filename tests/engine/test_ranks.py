from __future__ import annotations

import os
import signal
import time
from datetime import timedelta

import numpy as np
import psutil
import pytest
import torch

from cnnkit.engine import joining
from cnnkit.engine import ranks as module
from cnnkit.engine.ranks import ONE, Failure, SharedClock, reason_of, step_seed
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
    monkeypatch.setattr(module, "CAUSE_SECONDS", 3.0)

    def work(ranks):
        ranks.totals([1])
        if ranks.rank == 1:
            os._exit(9)
        try:
            ranks.totals([1])
        except RankLostError as error:
            if not error.reported:
                ranks.board.claim(Failure(ranks.rank, error.exit_code))
            if ranks.is_first:
                torch.distributed.destroy_process_group()
                time.sleep(3)  # it holds the notices
            raise

    found = run_ranks(4, work)
    assert found.pop(1) == 9
    assert all(isinstance(error, RankLostError) and error.exit_code == 3 for error in found)
    named = [error for error in found if not error.reported]
    assert named, "one of the neighbours of rank 1 in a sum"
    for error in named:
        assert str(error).startswith("rank 1 of 4 ended without a word: killed")
    assert found[-1].reported, "no neighbour, whose connection breaks only when a neighbour has ended"


def test_a_rank_that_stops_is_named_by_the_others(run_ranks, monkeypatch):
    for name in (module, joining):
        monkeypatch.setattr(name, "TIMEOUT", timedelta(seconds=3))
    monkeypatch.setattr(module, "CAUSE_SECONDS", 2.0)

    def work(ranks):
        if ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        try:
            ranks.totals([1])
        finally:
            (child,) = (each for each in psutil.Process(os.getppid()).children() if each.status() == psutil.STATUS_STOPPED)
            child.kill()

    error, killed = run_ranks(2, work)
    assert killed == -signal.SIGKILL
    assert str(error) == "rank 1 of 2 did not answer for 0.05 minutes: stopped, or without a connection"


def test_a_rank_knows_of_the_failure_of_another(run_ranks):
    def work(ranks):
        before = ranks.lost()
        ranks.totals([1])
        if ranks.rank == 1:
            ranks.board.claim(Failure(1, 130))
        ranks.totals([1])
        return before, ranks.lost() and ranks.lost().exit_code

    assert run_ranks(2, work) == [(None, 130), (None, None)]
    assert ONE.lost() is None


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


def test_the_reason_of_a_lost_connection_is_one_line():
    nccl = "NCCL error in: NCCLUtils.hpp:77, invalid usage\nncclInvalidUsage: ...\nLast error:\nDuplicate GPU detected: rank 1\n"
    assert reason_of(RuntimeError(nccl)) == "Duplicate GPU detected: rank 1"
    assert reason_of(RuntimeError("Connection closed by peer\nframe 0")) == "Connection closed by peer"
