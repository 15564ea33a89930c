"""Stdout for results alone: while a command runs, only its console writes there, whatever the code of other packages prints."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

_kept: TextIO | None = None


def results() -> TextIO:
    """Return the stream of results, which is stdout outside of a command."""
    return _kept or sys.stdout


@contextmanager
def results_alone() -> Generator[None]:
    """Send to stderr what is printed in the body, except by the writers to `results`."""
    global _kept
    before, _kept = _kept, results()
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout, _kept = _kept, before
