from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from cnnkit.data.staging import one_ahead, to_device


def test_the_host_keeps_its_tensor() -> None:
    values = torch.arange(4)
    assert to_device(values, torch.device("cpu")) is values


def test_a_copy_to_a_gpu_starts_from_pinned_memory_and_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    class Watched:
        def __init__(self, *, pinned: bool) -> None:
            self.pinned = pinned

        def is_pinned(self) -> bool:
            return self.pinned

        def pin_memory(self) -> Watched:
            calls.append("pin")
            return Watched(pinned=True)

        def to(self, device: torch.device, **how: bool) -> str:
            calls.append((device.type, how, self.pinned))
            return "copied"

    for pinned in (False, True):
        assert to_device(Watched(pinned=pinned), torch.device("cuda")) == "copied"  # pyright: ignore[reportArgumentType]
    copied = ("cuda", {"non_blocking": True}, True)
    assert calls == ["pin", copied, copied]


def test_items_come_in_order_and_one_is_made_ahead() -> None:
    made: list[int] = []
    ready = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for number in range(4):
            made.append(number)
            yield number
            ready.release()

    found = one_ahead(items())
    assert next(found) == 0
    assert ready.acquire(timeout=10)  # the thread has asked for the second item
    assert [*found] == [1, 2, 3]
    assert made == [0, 1, 2, 3]


def test_an_error_of_the_thread_reaches_the_caller() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("disk full")

    found = one_ahead(items())
    assert next(found) == 1
    with pytest.raises(OSError, match="disk full"):
        next(found)


def test_an_early_end_leaves_no_thread() -> None:
    before = threading.active_count()
    found = one_ahead(iter(range(100)))
    next(found)
    assert threading.active_count() == before + 1
    found.close()  # pyright: ignore[reportAttributeAccessIssue]  # a generator
    assert threading.active_count() == before
