"""The start and the end of the ranks' connection, and the watch that ends a rank after the failure of another."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple

import torch
from torch import distributed
from torch.distributed import PrefixStore, TCPStore  # pyright: ignore[reportPrivateImportUsage]  # documented names

from cnnkit.engine.rank_environment import RankEnvironment
from cnnkit.engine.ranks import FIRST_WAIT, MAX_WAIT, TIMEOUT, Board, Failure, Ranks, Store, reason_of
from cnnkit.errors import ConfigError, RankLostError, listed

START_TIMEOUT = timedelta(minutes=10)  # for the other ranks to start: a queue may start them one by one
WATCH_SECONDS = 1.0  # between two looks at the failures
NOTICE_SECONDS = 2.0  # for the other ranks to read the notice of a failure
GRACE_SECONDS = 20.0  # for a rank to end by itself after the failure of another: it may be writing a file


def join(environment: RankEnvironment, device: torch.device, say: Callable[[str], None] = lambda _: None) -> tuple[Ranks, Watch]:
    """Connect this process with the other ranks, which all call this function; use its GPU and its share of the cores.

    `say` takes the error of a rank whose main thread hangs. Raises `ConfigError` if `device` is none for several ranks, `RankLostError`
    if the other ranks do not come.
    """
    if device.type == "mps":
        raise ConfigError(f"--device mps: a Mac has one GPU, so {environment.world} ranks cannot use it; use --device cpu, or one process")
    if device.type == "cuda":
        _choose_gpu(environment)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, usable_cores() // environment.local_world))
    is_host = environment.rank == 0 and not _agent_holds_store()
    try:
        store, own = (
            TCPStore(environment.address, environment.port, is_master=host, wait_for_workers=False, timeout=START_TIMEOUT)
            for host in (is_host, False)
        )
        meeting = meet(store, environment)
        prefix = f"cnnkit/{meeting.name}"  # torchrun may keep the store, with the notices and the addresses of an earlier attempt
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        group = PrefixStore(f"{prefix}/group", store)
        distributed.init_process_group(backend, store=group, rank=environment.rank, world_size=environment.world, timeout=TIMEOUT)
    except RuntimeError as error:
        where = f"{environment.address}:{environment.port}"
        raise RankLostError(f"rank {environment.rank} of {environment.world} finds no others at {where}: {reason_of(error)}") from None
    holder = "the program that started the ranks" if _agent_holds_store() else f"rank 0 of {environment.world}"
    ranks = Ranks(
        rank=environment.rank,
        world=environment.world,
        local=environment.local,
        local_world=environment.local_world,
        machine=f"{platform.node()}-{environment.rank - environment.local}",
        is_restarted=meeting.is_restarted,
        board=Board(PrefixStore(prefix, store), holder),
    )
    watch = Watch(Board(PrefixStore(prefix, own), holder), ranks, say)
    watch.start()
    return ranks, watch


class Meeting(NamedTuple):
    """The attempt of all ranks to train together: a `name` of its own, and whether the launch had an earlier attempt."""

    name: str
    is_restarted: bool


def meet(store: Store, environment: RankEnvironment, timeout: timedelta = START_TIMEOUT) -> Meeting:
    """Wait for all ranks of this attempt in `store`, which may hold the keys of earlier attempts.

    Raises `RankLostError` if ranks are missing after the `timeout`. Rank 0 posts the name of the attempt and the others answer. It then
    lists the answers, by which a rank knows that the attempt is its own. torchrun counts restarts by machine: where another machine
    caused the restart, it counts none.
    """
    own, end, wait = uuid.uuid4().hex, time.monotonic() + timeout.total_seconds(), FIRST_WAIT
    if environment.rank == 0:
        attempts = store.add("cnnkit/attempts", 1)
        store.set("cnnkit/attempt", own)
        answers = {0: [own, environment.restarts]}
        while len(answers) < environment.world:
            absent = [rank for rank in range(environment.world) if rank not in answers]
            answers |= {rank: json.loads(store.get(f"cnnkit/{own}/{rank}")) for rank in absent if store.check([f"cnnkit/{own}/{rank}"])}
            wait = _pause(wait, end, f"ranks {listed(map(str, absent))} of {environment.world} have not started")
        is_restarted = attempts > 1 or any(restarts for _, restarts in answers.values())
        store.set(f"cnnkit/{own}/all", json.dumps([[name for name, _ in answers.values()], is_restarted]))
        return Meeting(own, is_restarted)
    answered = ""
    while True:
        name = store.get("cnnkit/attempt").decode() if store.check(["cnnkit/attempt"]) else ""
        if name != answered:
            store.set(f"cnnkit/{name}/{environment.rank}", json.dumps([own, environment.restarts]))
            answered = name
        if name and store.check([f"cnnkit/{name}/all"]):
            names, is_restarted = json.loads(store.get(f"cnnkit/{name}/all"))
            if own in names:
                return Meeting(name, is_restarted)
        wait = _pause(wait, end, "not all ranks have started")


def _pause(wait: float, end: float, problem: str) -> float:
    """Sleep `wait` seconds and return the next time to wait; raise `RankLostError` with the `problem` after the moment `end`."""
    if time.monotonic() > end:
        raise RankLostError(f"{problem}; start all of them within {START_TIMEOUT.total_seconds() / 60:g} minutes")
    time.sleep(wait)
    return min(2 * wait, MAX_WAIT)


def _agent_holds_store() -> bool:
    """Return whether torchrun holds the store of notices, and not rank 0."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def leave(watch: Watch, ranks: Ranks, *, failed: bool = False) -> None:
    """End the watch and the connection; if this rank has `failed` and holds the notices, give the others the time to read the cause."""
    watch.stop()
    if distributed.is_initialized():
        distributed.destroy_process_group()  # the ranks that wait for this one notice it
    if failed and ranks.is_first and not _agent_holds_store():
        time.sleep(NOTICE_SECONDS)


class Watch(threading.Thread):
    """A thread that ends this process some seconds after another rank has failed, and answers a rank that asks who runs.

    A rank that waits for a GPU or decodes images would else notice nothing. The main thread usually ends first, by `RankLostError`.
    `say` takes the error if nobody can have reported one.
    """

    def __init__(self, board: Board, ranks: Ranks, say: Callable[[str], None]) -> None:
        super().__init__(name="cnnkit-ranks", daemon=True)
        self._board = board
        self._ranks = ranks
        self._say = say
        self._ended = threading.Event()

    def run(self) -> None:
        """Look for failures and questions until `stop`."""
        answered = False
        while not self._ended.wait(WATCH_SECONDS):
            with suppress(RuntimeError):
                answered = answered or self._board.answer_roll(self._ranks.rank)
            failure = self._look()
            if failure is not None and failure.rank != self._ranks.rank and not self._ended.wait(GRACE_SECONDS):
                if failure.rank < 0:
                    self._say(f"{self._board.holder} ended without a word, so rank {self._ranks.rank} ends, too")
                os._exit(failure.code)

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()

    def _look(self) -> Failure | None:
        """Return the first failure, and keep it for the main thread."""
        try:
            failure = self._board.failure()
        except RuntimeError:  # the process that holds the store has ended
            return Failure(-1, RankLostError("").exit_code)
        if failure is not None and self._ranks.board is not None:
            self._ranks.board.seen = failure
        return failure


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _choose_gpu(environment: RankEnvironment) -> None:
    """Make the GPU of this rank the current one: the one with its local number, or the only one that it sees."""
    count = torch.cuda.device_count()
    if 1 < count < environment.local_world:
        raise ConfigError(
            f"{environment.local_world} ranks were started on this machine, which has {count} GPUs; start one rank for each GPU, "
            f"such as torchrun --nproc-per-node={count}"
        )
    torch.cuda.set_device(environment.local % count)
