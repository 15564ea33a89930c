"""The fence around the code of other packages: their prints go to stderr, and their errors become a `PluginError`.

The fence guards against mistakes. It cannot stop a package that means harm, because Python code may do whatever its user may do: see
docs/security.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from threading import Lock
from typing import TYPE_CHECKING, ParamSpec, TextIO, TypeVar

from cnnkit.errors import CnnkitError, PluginError, cut, hide_passwords

if TYPE_CHECKING:
    from cnnkit.registry.entries import Entry

MAX_REASON_LENGTH = 500  # characters of a message, which may hold a whole tensor
P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def fence(entry: Entry, failing: str, *, allowed: tuple[type[BaseException], ...] = (), remedy: str = "") -> Generator[None]:
    """Run the body, which calls the code of the package of `entry`; what it prints goes to stderr.

    Raises `PluginError` for every error except Ctrl-C, a `CnnkitError` and those `allowed`. Its message says that the entry `failing`,
    such as "does not load", and names the `remedy`; by default the package should be reinstalled.
    """
    try:
        with _STREAMS.diverted():
            yield
    except (KeyboardInterrupt, CnnkitError, *allowed):
        raise
    except BaseException as error:
        advice = remedy or f"reinstall or uninstall {entry.package}"
        raise PluginError(f"{entry.described} {failing}: {reason(error)}; {advice}") from error


def fenced(entry: Entry, failing: str, call: Callable[P, T], *, allowed: tuple[type[BaseException], ...] = ()) -> Callable[P, T]:
    """Return `call` inside the `fence`, with its signature."""

    @wraps(call)
    def guarded(*args: P.args, **keywords: P.kwargs) -> T:
        with fence(entry, failing, allowed=allowed):
            return call(*args, **keywords)

    return guarded


def reason(error: BaseException) -> str:
    """Return the type and the message of `error` in one line; an end of the program is named as one."""
    try:
        text = cut(hide_passwords(" ".join(str(error).split())), MAX_REASON_LENGTH)
    except BaseException:  # noqa: BLE001 (the message itself is code of the package)
        text = "its message cannot be read"
    named = f"{type(error).__name__}: {text}".removesuffix(": ")
    return f"it ends the program ({named})" if isinstance(error, SystemExit) else named


class _Streams:
    """The diversion of stdout to stderr for all threads together: the first one starts it, the last one ends it.

    Python has one `sys.stdout` for all threads. Without a count, a thread could restore it while another is still inside, or restore
    the diverted stream for good.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._kept: tuple[TextIO, TextIO] = sys.stdout, sys.stderr

    @contextmanager
    def diverted(self) -> Generator[None]:
        with self._lock:
            if not self._inside:
                self._kept = sys.stdout, sys.stderr
                sys.stdout = sys.stderr
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    sys.stdout, sys.stderr = self._kept  # a package may have replaced either


_STREAMS = _Streams()
