"""Readers of byte ranges of a file, for several threads at the same time."""

from __future__ import annotations

import io
import os
import weakref
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Protocol

from cnnkit.data.image import UndecodableError


class Spans(Protocol):
    """The bytes of a file of `size` bytes; `stamp` changes when the file may have changed."""

    size: int
    stamp: str

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes from offset `start`; raises `UndecodableError` if there are fewer or the file has changed."""
        ...


class SpanFile(io.RawIOBase):
    """The bytes of `spans` as an open file; a failed read raises `OSError`."""

    def __init__(self, spans: Spans) -> None:
        super().__init__()
        self._spans, self._position = spans, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position of the next read, and return it."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._spans.size}[whence]
        return self._position

    def tell(self) -> int:
        """Return the position of the next read."""
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride] (the interpreter gives no other buffer)
        """Fill `buffer` as far as the file goes, and return the number of bytes."""
        size = max(0, min(len(buffer), self._spans.size - self._position))
        if size:
            try:
                buffer[:size] = self._spans.read(self._position, size)
            except UndecodableError as error:
                raise OSError(0, str(error)) from None
        self._position += size
        return size


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
