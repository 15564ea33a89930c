"""Locks of the cache: one process writes a store, and a store in use is not removed. They end with their process, however it ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from cnnkit.files import lock_file

WAIT_SECONDS = 0.1  # between two attempts
IN_USE_FILE = "in-use"
_held: dict[Path, int] = {}  # stores that this process uses, with the descriptor of the locked file


@contextmanager
def exclusive(file: Path, is_alive: Callable[[], bool]) -> Generator[bool]:
    """Lock `file` during the body, after waiting for the process that holds it as long as `is_alive` returns True.

    Yield True if the lock was obtained. Yield False if `is_alive` returned False, or if the file system has no locks. Raises `OSError`
    if the file cannot be made.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with file.open("ab") as opened:
            obtained = _try_lock(opened.fileno(), shared=False)
            if obtained and not _is_same(opened.fileno(), file):  # `cnnkit cache --clear` removed the file meanwhile
                continue
            if obtained or obtained is None or not is_alive():
                yield bool(obtained)
                return
        time.sleep(WAIT_SECONDS)


def hold(folder: Path) -> None:
    """Mark the store in `folder` as in use until this process ends; without a right to write there, do nothing."""
    if folder in _held or sys.platform == "win32":  # Windows removes no mapped file anyway
        return
    try:
        opened = os.open(folder / IN_USE_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return
    _try_lock(opened, shared=True)
    _held[folder] = opened


def is_in_use(folder: Path) -> bool:
    """Return True if this or another process uses the store in `folder`."""
    if folder in _held:
        return True
    try:
        with (folder / IN_USE_FILE).open("rb") as opened:
            return _try_lock(opened.fileno(), shared=False) is False
    except OSError:
        return False


def _try_lock(opened: int, *, shared: bool) -> bool | None:
    """Lock the file of a descriptor until it is closed; return False if another process holds it, None if the file system has no locks."""
    try:
        lock_file(opened, wait=False, shared=shared)
    except (BlockingIOError, PermissionError):  # of Unix, and of Windows
        return False
    except OSError:
        return None
    return True


def _is_same(opened: int, file: Path) -> bool:
    """Return True if `file` still is the open file."""
    try:
        return os.path.samestat(os.fstat(opened), file.stat())
    except OSError:
        return False
