"""Interruption by Ctrl-C or SIGTERM: an exception ends a long command, so that the command keeps and reports its results."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Never


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, which is handled like Ctrl-C."""


@contextmanager
def terminable() -> Generator[None]:
    """Turn SIGTERM into `TerminatedError` while the body runs."""

    def stop(*_: object) -> Never:
        raise TerminatedError

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a command that `stop` ended: 143 after SIGTERM, 130 after Ctrl-C."""
    return 143 if isinstance(stop, TerminatedError) else 130
