"""Ctrl-C and SIGTERM: both end a long command by an exception, so that what was reached is kept and said."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Never


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, handled as Ctrl-C is."""


@contextmanager
def terminable() -> Generator[None]:
    """Turn SIGTERM into `TerminatedError` while the body runs."""

    def stop(*_: object) -> Never:
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a command that was stopped so: 143 after SIGTERM, 130 after Ctrl-C."""
    return 143 if isinstance(stop, TerminatedError) else 130
