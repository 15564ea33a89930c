"""Reading of regular files, which end, within a limit; pipes, devices and other files are refused."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Never

# The record of a run with a million unreadable images takes 150 MB.
MAX_JSON_BYTES = 2**28


@contextmanager
def open_regular(path: str | Path) -> Generator[BinaryIO]:
    """Open the regular file `path` for reading; raises `OSError` for anything else, as the reading of a pipe or device may never end."""
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 (closed below)
    except ValueError as error:  # a name that no file can have
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_regular(path: str | Path, limit: int) -> bytes:
    """Return the content of the regular file `path`; raises `OSError` as `open_regular`, and for more than `limit` bytes."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than the limit of {limit:,} bytes", str(path))
    return content


def read_json(path: Path) -> Any:
    """Return the value of the JSON document `path`; raises `OSError` as `read_regular`, `ValueError` for any other content."""
    return parse_json(read_regular(path, MAX_JSON_BYTES).decode("utf-8"))


def parse_json(text: str, *, finite: bool = False) -> Any:
    """Return the value of a JSON document; `finite` refuses NaN and infinity, which Python writes and JSON lacks.

    Raises `ValueError` for any other text, and for a document that is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant if finite else None)
    except RecursionError:
        raise ValueError("lists or objects are nested too deeply") from None


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is no number of JSON")
