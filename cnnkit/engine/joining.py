"""The start and the end of the ranks' connection, and the watch that ends a rank after the failure of another."""

from __future__ import annotations

import os
import platform
import threading
import time
from contextlib import suppress
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed import PrefixStore, TCPStore, rendezvous  # pyright: ignore[reportPrivateImportUsage]  # documented names

from cnnkit.engine.rank_environment import RankEnvironment
from cnnkit.engine.ranks import TIMEOUT, Board, Failure, Ranks
from cnnkit.errors import ConfigError, RankLostError

START_TIMEOUT = timedelta(minutes=10)  # for the other ranks to start: a queue may start them one by one
WATCH_SECONDS = 1.0  # between two looks at the failures
NOTICE_SECONDS = 2.0  # for the other ranks to read the notice of a failure
GRACE_SECONDS = 20.0  # for a rank to end by itself after the failure of another: it may be writing a file


def join(environment: RankEnvironment, device: torch.device) -> tuple[Ranks, Watch]:
    """Connect this process with the other ranks, which all call this function; use its GPU and its share of the cores.

    Raises `ConfigError` if `device` is none for several ranks, `RankLostError` if the other ranks do not come.
    """
    if device.type == "mps":
        raise ConfigError(f"--device mps: a Mac has one GPU, so {environment.world} ranks cannot use it; use --device cpu, or one process")
    if device.type == "cuda":
        _choose_gpu(environment)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, usable_cores() // environment.local_world))
    os.environ.update(MASTER_ADDR=environment.address, MASTER_PORT=str(environment.port))
    prefix = f"cnnkit/{environment.restarts}"  # torchrun may keep the store, with the notices and the addresses of an earlier attempt
    try:
        store, _, _ = next(rendezvous("env://", environment.rank, environment.world, timeout=START_TIMEOUT))
        own = TCPStore(environment.address, environment.port, is_master=False, wait_for_workers=False, timeout=START_TIMEOUT)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        group = PrefixStore(f"{prefix}/group", store)
        distributed.init_process_group(backend, store=group, rank=environment.rank, world_size=environment.world, timeout=TIMEOUT)
    except RuntimeError as error:
        where = f"{environment.address}:{environment.port}"
        reason = str(error).strip().partition("\n")[0]
        raise RankLostError(f"rank {environment.rank} of {environment.world} finds no others at {where}: {reason}") from None
    ranks = Ranks(
        rank=environment.rank,
        world=environment.world,
        local=environment.local,
        local_world=environment.local_world,
        machine=f"{platform.node()}-{environment.rank - environment.local}",
        board=Board(PrefixStore(prefix, store)),
    )
    watch = Watch(Board(PrefixStore(prefix, own)), ranks)
    watch.start()
    return ranks, watch


def leave(watch: Watch, ranks: Ranks, *, failed: bool = False) -> None:
    """End the watch and the connection; if this rank has `failed` and holds the notices, give the others the time to read the cause."""
    watch.stop()
    if distributed.is_initialized():
        distributed.destroy_process_group()  # the ranks that wait for this one notice it
    if failed and ranks.is_first and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        time.sleep(NOTICE_SECONDS)


class Watch(threading.Thread):
    """A thread that ends this process some seconds after another rank has failed, and answers a rank that asks who runs.

    A rank that waits for a GPU or decodes images would else notice nothing. The main thread usually ends first, by `RankLostError`.
    """

    def __init__(self, board: Board, ranks: Ranks) -> None:
        super().__init__(name="cnnkit-ranks", daemon=True)
        self._board = board
        self._ranks = ranks
        self._ended = threading.Event()

    def run(self) -> None:
        """Look for failures and questions until `stop`."""
        answered = False
        while not self._ended.wait(WATCH_SECONDS):
            with suppress(RuntimeError):
                answered = answered or self._board.answer_roll(self._ranks.rank)
            failure = self._look()
            if failure is not None and failure.rank != self._ranks.rank and not self._ended.wait(GRACE_SECONDS):
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
