"""The blame for an error in the middle of a command: the package of another author whose code raised it.

The `fence` stands around every call of a plugin. A network is different: torch calls it, in every step of a training. So an error in its
code is assigned to its package afterwards, by the traceback.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from traceback import walk_tb

from cnnkit.errors import CnnkitError, PluginFailedError
from cnnkit.registry.entries import Entry, find_all
from cnnkit.registry.fence import reason


@contextmanager
def blame() -> Generator[None]:
    """Raise `PluginFailedError` with package and version for an error of the body that the code of another package raised."""
    try:
        yield
    except (KeyboardInterrupt, CnnkitError):
        raise
    except BaseException as error:
        entry = _responsible(error)
        if entry is None:
            raise
        raise PluginFailedError(
            f"{entry.described} failed: {reason(error)}; --debug shows where; choose another, or uninstall {entry.package}"
        ) from error


def _responsible(error: BaseException) -> Entry | None:
    """Return the entry of another package whose code stands in the traceback of `error`."""
    modules = {str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in walk_tb(error.__traceback__)}
    return next(
        (entry for entry in find_all() if not entry.is_builtin and entry.value.partition(":")[0].partition(".")[0] in modules), None
    )
