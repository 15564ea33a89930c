"""The ranks of a training: processes on one or more machines that train one network, each on its part of every batch.

One process is the case `ONE`, which communicates nothing. The gradients are summed here, after the backward pass of a whole step, and not
by ``DistributedDataParallel``: its hooks would not fit replicas, parts of a batch that is too large, and parameters that are frozen later.
"""

from __future__ import annotations

import json
import pickle
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnnkit.errors import RankLostError

Value = TypeVar("Value")
Element = TypeVar("Element", bound=np.generic)

MAX_BUCKET_NUMEL = 2**24  # numbers in one sum over the ranks: 64 MB of fp32, the memory that a sum needs beside the gradients
TIMEOUT = timedelta(minutes=30)  # of a sum: the ranks may wait for rank 0, which saves the model and tells the trackers
FIRST_WAIT, MAX_WAIT = 0.01, 0.5  # seconds between two looks at a notice
CAUSE_SECONDS = 4.0  # to wait, after a connection broke, for the notice of the rank that failed and of those that still run


class Store(Protocol):
    """The part of torch's stores that the ranks use: keys and values that all of them see."""

    def set(self, key: str, value: str, /) -> None: ...  # noqa: D102
    def get(self, key: str, /) -> bytes: ...  # noqa: D102
    def check(self, keys: list[str], /) -> bool: ...  # noqa: D102
    def add(self, key: str, amount: int, /) -> int: ...  # noqa: D102
    def compare_set(self, key: str, expected: str, desired: str, /) -> bytes: ...  # noqa: D102


@dataclass(frozen=True)
class Failure:
    """The first failure of a rank: its `rank`, the exit code of its command, and whether it has reported the cause."""

    rank: int
    code: int


class Board:
    """The notices of the ranks in a store: values of rank 0, machines that are ready, and the first failure.

    `holder` names the process that holds the store.
    """

    def __init__(self, store: Store, holder: str = "rank 0") -> None:
        self.holder = holder
        self.seen: Failure | None = None  # the first failure, once it was read here or by the watch: the store may end before a rank looks
        self._store = store
        self._agreements = 0

    def next_key(self, kind: str) -> str:
        """Return a key that all ranks give to the same event, as they ask for keys in the same order."""
        self._agreements += 1
        return f"cnnkit/{kind}/{self._agreements}"

    def post(self, key: str, value: bytes = b"1") -> None:
        """Write a notice."""
        self._store.set(key, value.hex())

    def is_posted(self, key: str) -> bool:
        """Return whether the notice `key` was written."""
        return self._store.check([key])

    def read(self, key: str) -> bytes:
        """Return a notice that was written."""
        return bytes.fromhex(self._store.get(key).decode())

    def claim(self, failure: Failure) -> Failure:
        """Record `failure` unless another rank has recorded one; return the first failure."""
        text = json.dumps(asdict(failure))
        return Failure(**json.loads(self._store.compare_set("cnnkit/failure", "", text).decode() or text))

    def failure(self) -> Failure | None:
        """Return the first failure, None without one."""
        if self.seen is None and self.is_posted("cnnkit/failure"):
            self.seen = Failure(**json.loads(self._store.get("cnnkit/failure")))
        return self.seen

    def call_roll(self, rank: int) -> None:
        """Ask all ranks to answer that they run, because a connection broke; `rank` answers."""
        self.post("cnnkit/roll")
        self.post(f"cnnkit/running/{rank}")

    def answer_roll(self, rank: int) -> bool:
        """Answer for `rank` that it runs, and return True, if a rank has asked."""
        if not self.is_posted("cnnkit/roll"):
            return False
        self.post(f"cnnkit/running/{rank}")
        return True

    def silent(self, world: int) -> list[int]:
        """Return the ranks that have not answered."""
        return [rank for rank in range(world) if not self.is_posted(f"cnnkit/running/{rank}")]


@dataclass(frozen=True)
class Ranks:
    """The rank of this process: number `rank` of `world`, number `local` of `local_world` on its `machine`.

    `is_restarted` says whether torchrun or SLURM has started the ranks again, after an earlier attempt of the same launch.
    Work for all ranks must be done by all of them in the same order. Every method raises `RankLostError` if another rank has ended.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    local_world: int = 1
    machine: str = ""
    is_restarted: bool = False
    board: Board | None = field(default=None, compare=False, repr=False)

    @property
    def is_first(self) -> bool:
        """True for the one rank that writes files and prints."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """True if there are other ranks."""
        return self.world > 1

    def part(self, values: NDArray[Element]) -> NDArray[Element]:
        """Return the part of `values` (N, …) that belongs to this rank; the parts differ by at most one element."""
        return np.array_split(values, self.world)[self.rank]

    def agreed(self, work: Callable[[], Value]) -> Value:
        """Return the result of `work`, which only rank 0 does, on all ranks."""
        if self.board is None:
            return work()
        key = self.board.next_key("agreed")
        if self.is_first:
            value = work()
            with self._connected(self.board):
                self.board.post(key, pickle.dumps(value))
            return value
        with self._connected(self.board):
            self._wait(self.board, key)
            return pickle.loads(self.board.read(key))  # noqa: S301 (from rank 0 of this training)

    @contextmanager
    def machine_first(self) -> Generator[None]:
        """Run the body on the first rank of each machine, then on its other ranks: what the first one has stored is found by them."""
        if self.board is None:
            yield
            return
        key = f"{self.board.next_key('machine')}/{self.machine}"
        if self.local:
            with self._connected(self.board):
                self._wait(self.board, key)
        yield
        if not self.local:
            with self._connected(self.board):
                self.board.post(key)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its sum over the ranks, in few large transfers."""
        if self.board is None:
            return
        with self._connected(self.board):
            for bucket in _buckets(tensors):
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
                torch.distributed.all_reduce(flat)
                for tensor, total in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                    tensor.copy_(total.view_as(tensor))

    def totals(self, values: Iterable[float]) -> list[float]:
        """Return the sums of the numbers over the ranks, in float64."""
        numbers = torch.tensor(list(values), dtype=torch.float64)
        self.sum([numbers])
        return numbers.tolist()

    def joined(self, rows: NDArray[Element]) -> NDArray[Element]:
        """Return the `rows` (n, …) of all ranks below each other on rank 0, and those of this rank on the others."""
        if self.board is None:
            return rows
        found: list[Any] | None = [None] * self.world if self.is_first else None
        with self._connected(self.board):
            torch.distributed.gather_object(rows, found)
        return rows if found is None else np.concatenate(found)

    def share(self, data: bytes) -> bytes:
        """Return the `data` of rank 0 on all ranks."""
        if self.board is None:
            return data
        (size,) = self.totals([len(data) if self.is_first else 0])
        buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.is_first else torch.empty(int(size), dtype=torch.uint8)
        with self._connected(self.board):
            torch.distributed.broadcast(buffer, 0)
        return buffer.numpy().tobytes()

    def lost(self) -> RankLostError | None:
        """Return the error for another rank that has failed, None without one."""
        with suppress(RuntimeError):  # the process that holds the store has ended
            failure = self.board.failure() if self.board is not None else None
            return lost_rank(failure) if failure is not None and failure.rank != self.rank else None
        return None

    def _wait(self, board: Board, key: str) -> None:
        """Wait for the notice `key`; raises `RankLostError` if a rank fails before."""
        wait = FIRST_WAIT
        while not board.is_posted(key):
            if failure := board.failure():
                raise lost_rank(failure)
            time.sleep(wait)
            wait = min(2 * wait, MAX_WAIT)

    @contextmanager
    def _connected(self, board: Board) -> Generator[None]:
        """Raise `RankLostError` for a connection that breaks in the body."""
        try:
            yield
        except RuntimeError as error:
            if not is_lost_connection(error):
                raise
            ignore_termination()
            raise self._find_cause(board, error) from error

    def _find_cause(self, board: Board, error: RuntimeError) -> RankLostError:
        """Return the error for a broken connection: the failure that another rank has reported, or the ranks that have ended."""
        try:
            board.call_roll(self.rank)
            end = time.monotonic() + CAUSE_SECONDS
            while time.monotonic() < end:
                if failure := board.failure():
                    return lost_rank(failure)
                time.sleep(FIRST_WAIT)
            ended = board.silent(self.world)
        except RuntimeError:  # the process that holds the store has ended
            if board.seen:
                return lost_rank(board.seen)
            return RankLostError(f"{board.holder} ended without a word: killed, or its memory was full")
        if not ended:
            return RankLostError(f"the connection between the ranks broke ({reason_of(error)})")
        names = f"rank{'s' * (len(ended) > 1)} {', '.join(map(str, ended))} of {self.world}"
        if is_timeout(error):
            return RankLostError(f"{names} did not answer for {TIMEOUT.total_seconds() / 60:g} minutes: stopped, or without a connection")
        return RankLostError(f"{names} ended without a word: killed, or its memory was full")


ONE = Ranks()


class SharedClock:
    """A clock that all ranks read alike: it shows the last reading of rank 0 on which they agreed, or just `clock` without other ranks.

    Decisions that follow the clock, such as the end of a time budget, are then the same on all ranks.
    """

    def __init__(self, ranks: Ranks, clock: Callable[[], float]) -> None:
        self._ranks = ranks
        self._clock = clock
        self._reading = 0.0
        self.tick()

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self._reading if self._ranks.several else self._clock()

    def own_reading(self) -> float:
        """Return this rank's part of the next reading, whose sum over the ranks is the time of rank 0."""
        return self._clock() if self._ranks.several and self._ranks.is_first else 0.0

    def set(self, reading: float) -> None:
        """Show `reading`, the sum of the ranks' parts."""
        self._reading = reading

    def tick(self) -> None:
        """Agree on a new reading."""
        if self._ranks.several:
            (reading,) = self._ranks.totals([self.own_reading()])
            self.set(reading)


def step_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """Return the seed of torch for a step of a rank, so that dropout differs by rank and a resumed training repeats it."""
    return int(np.random.SeedSequence((seed, epoch, step, rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def lost_rank(failure: Failure) -> RankLostError:
    """Return the error of a rank that ends because of the `failure` of another, which has reported its cause."""
    return RankLostError(f"rank {failure.rank} has failed", code=failure.code, reported=True)


def is_lost_connection(error: RuntimeError) -> bool:
    """Return whether `error` comes from the connection to another rank, and not from the work on this rank."""
    return isinstance(error, torch.distributed.DistError) or any(sign in str(error) for sign in ("gloo", "Connection", "Broken pipe"))


def reason_of(error: RuntimeError) -> str:
    """Return the first line of `error`, or the one after the words by which NCCL introduces the cause."""
    return str(error).rpartition("Last error:")[2].strip().partition("\n")[0]


def is_timeout(error: RuntimeError) -> bool:
    """Return whether a lost connection did not break, but brought nothing for `TIMEOUT`."""
    return "imed out" in str(error)


def ignore_termination() -> None:
    """Ignore SIGTERM: this process is about to end, and the program that started the ranks must not interrupt it."""
    if threading.current_thread() is threading.main_thread():
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _buckets(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Return the tensors in groups of one type and device with at most `MAX_BUCKET_NUMEL` numbers, or one larger tensor."""
    groups: dict[tuple[torch.dtype, torch.device], list[list[Tensor]]] = {}
    for tensor in tensors:
        lists = groups.setdefault((tensor.dtype, tensor.device), [[]])
        if lists[-1] and sum(other.numel() for other in lists[-1]) + tensor.numel() > MAX_BUCKET_NUMEL:
            lists.append([])
        lists[-1].append(tensor)
    return [bucket for lists in groups.values() for bucket in lists]
