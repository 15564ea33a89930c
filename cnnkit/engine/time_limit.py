"""A limit on the time of a call in this thread, such as a compilation, which nothing else can stop."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from threading import Lock, Thread, get_ident
from typing import TypeVar

Result = TypeVar("Result")
REPEAT_SECONDS = 0.5  # code that ignores an error, such as that of a destructor, may have ignored this one


class TimeLimitReached(BaseException):
    """The end of the time of `run_within`; no `Exception`, so that code which catches those does not keep it."""


def run_within(seconds: float, work: Callable[[], Result]) -> Result:
    """Return the result of `work`; raise `TimeLimitReached` in it once it has taken `seconds`.

    As Ctrl-C does, it interrupts Python between two of its instructions, in this thread alone. A call of a compiled library ends first.
    This is no ``with`` statement, whose end could be interrupted before its first instruction.
    """
    caller, is_over = get_ident(), False
    guard, waiting, ready = Lock(), Lock(), Lock()
    waiting.acquire()
    ready.acquire()

    def watch() -> None:
        ready.acquire()
        wait = seconds
        while not waiting.acquire(timeout=wait):
            with guard:
                if not is_over:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(caller), ctypes.py_object(TimeLimitReached))
            wait = REPEAT_SECONDS

    Thread(target=watch, daemon=True).start()
    try:
        ready.release()
        return work()
    finally:
        # Python raises the error after the call of a function. So one that is on its way arrives at the first call here, and none is sent
        # after it. Functions written in Python, such as those of an Event, could be left half done.
        try:
            guard.acquire()
        finally:
            is_over = True
            guard.release()
            waiting.release()
