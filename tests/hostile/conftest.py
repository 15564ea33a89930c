"""The promise of every hostile file: a sentence and an exit code, no traceback, no hang, and nothing written outside."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MAX_SECONDS = 30


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """Fail a test that takes more than `MAX_SECONDS`."""

    def stop(*_: object) -> None:
        pytest.fail(f"it took more than {MAX_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MAX_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def refused(cli: Callable[..., Any], tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs a command, which must refuse its input, and returns the message."""

    def run(*arguments: object) -> str:
        before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
        done = cli(*arguments)
        assert done.code == 2, (done.code, done.out[:300], done.err[:300])
        assert "Traceback" not in done.err
        assert any(line.startswith(("error", "Usage")) for line in done.err.splitlines())
        assert len(done.err) < 4_000
        written = {path for path in tmp_path.rglob("*") if "cache" not in path.parts} - before
        assert not {path for path in written if path.is_file()}, written
        return done.err

    return run
