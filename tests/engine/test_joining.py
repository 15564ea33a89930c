from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import HashStore  # pyright: ignore[reportPrivateImportUsage]  # a documented name

from cnnkit.engine import joining
from cnnkit.engine.joining import meet
from cnnkit.engine.rank_environment import RankEnvironment
from cnnkit.errors import RankLostError


def attempt(store, restarts):
    places = [RankEnvironment(rank, len(restarts), 0, 1, "a", 1, "launch", count) for rank, count in enumerate(restarts)]
    with ThreadPoolExecutor(len(places)) as threads:
        return [*threads.map(lambda place: meet(store, place, timedelta(seconds=20)), places)]


def test_the_ranks_of_each_attempt_have_a_name_of_their_own():
    store = HashStore()
    first, second, third = (attempt(store, restarts) for restarts in ([0, 0, 0], [0, 0, 0], [1, 1]))
    assert [len(set(each)) for each in (first, second, third)] == [1, 1, 1]
    assert len({each[0].name for each in (first, second, third)}) == 3
    assert [each[0].is_restarted for each in (first, second, third)] == [False, True, True], "torchrun keeps its store"


def test_a_restart_that_one_machine_counts_is_one_for_all():
    assert [each.is_restarted for each in attempt(HashStore(), [0, 1])] == [True, True]


def test_a_rank_does_not_join_an_attempt_of_others():
    store = HashStore()
    attempt(store, [0, 0])
    with pytest.raises(RankLostError, match=r"^not all ranks have started; start all of them within 10 minutes$"):
        meet(store, RankEnvironment(1, 2, 0, 1, "a", 1), timedelta(seconds=0.1))


def test_rank_0_names_the_ranks_that_are_missing():
    store = HashStore()
    with pytest.raises(RankLostError, match=r"^ranks 1, 2 of 3 have not started"):
        meet(store, RankEnvironment(0, 3, 0, 1, "a", 1), timedelta(seconds=0.1))
    assert json.loads(store.get("cnnkit/attempts")) == 1


def test_a_rank_that_hangs_ends_after_the_end_of_the_others(run_ranks, monkeypatch, tmp_path):
    monkeypatch.setattr(joining, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(joining, "WATCH_SECONDS", 0.1)
    said = tmp_path / "said"
    started = joining.Watch.__init__
    monkeypatch.setattr(joining.Watch, "__init__", lambda watch, board, ranks, _: started(watch, board, ranks, said.write_text))

    def work(ranks):
        ranks.totals([1])
        if ranks.is_first:
            os._exit(9)
        time.sleep(60)

    assert run_ranks(2, work) == [9, 3]
    assert said.read_text() == "rank 0 of 2 ended without a word, so rank 1 ends, too"
