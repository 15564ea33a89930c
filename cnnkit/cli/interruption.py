"""Interruption by SIGHUP, SIGINT (Ctrl-C) or SIGTERM: an exception ends a long command, so that it keeps and reports its results."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Never

# Windows has no SIGHUP.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGTERM") if hasattr(signal, name))


class InterruptedBySignal(KeyboardInterrupt):
    """The first of the `SIGNALS` that a command received, by its `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def interruptible() -> Generator[None]:
    """Turn the first of the `SIGNALS` into `InterruptedBySignal` while the body runs; a second one ends the process at once.

    A signal that the parent process has switched off, as nohup does with SIGHUP, stays off.
    """
    received = False

    def stop(number: int, _: object) -> Never:
        nonlocal received
        if received:
            os._exit(exit_status(number))  # every file is written whole, and the next process takes over the lock of the run
        received = True
        raise InterruptedBySignal(number)

    previous = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number, handler in previous.items() if handler != signal.SIG_IGN]
    try:
        for number in handled:
            signal.signal(number, stop)
        yield
    finally:
        for number in handled:
            signal.signal(number, previous[number])


def exit_status(number: int) -> int:
    """Return the exit code after the signal `number`, as a shell counts it: 129, 130 or 143."""
    return 128 + number


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a command that `stop` ended."""
    return exit_status(stop.number if isinstance(stop, InterruptedBySignal) else signal.SIGINT)


def interruption_of(error: BaseException) -> KeyboardInterrupt | None:
    """Return the interruption during whose handling `error` was raised: a terminal that hangs up takes no last line."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, KeyboardInterrupt):
        link = link.__context__
    return link
