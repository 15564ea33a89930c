"""Readers of byte ranges of a file, for several threads at the same time."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from cnnkit.data.image import UndecodableError


class FileSpans:
    """The bytes of the file `path` in its present state. Every read opens the file, so threads share no file position."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self.size, self.stamp = _state(path.stat())

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes from offset `start`; raises `UndecodableError` if there are fewer or the file has changed."""
        try:
            with open(self._path, "rb", buffering=0) as file:  # noqa: PTH123 (a Path costs more than a small read)
                if _state(os.fstat(file.fileno())) != (self.size, self.stamp):
                    raise UndecodableError("the archive has changed since it was listed")
                file.seek(start)
                data = file.read(size)
        except OSError as error:
            raise UndecodableError(error.strerror or str(error)) from None
        return _whole(data, size)


class OpenSpans:
    """The bytes of an open `file`, which may have no name and is closed together with this object."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = Lock()
        weakref.finalize(self, file.close)

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes from offset `start`; raises `UndecodableError` if there are fewer."""
        try:
            if hasattr(os, "pread"):  # does not move the file position, which all threads share
                return _whole(os.pread(self._file.fileno(), size, start), size)
            with self._lock:
                self._file.seek(start)
                return _whole(self._file.read(size), size)
        except OSError as error:
            raise UndecodableError(error.strerror or str(error)) from None


def _state(status: os.stat_result) -> tuple[int, str]:
    return status.st_size, f"{status.st_size}:{status.st_mtime_ns}"


def _whole(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise UndecodableError("the archive is truncated here")
    return data
