"""The files of a data set in many files: those that a pattern names, each with a reader of its byte ranges."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar, cast

import numpy as np

from cnnkit.config.passwords import with_passwords
from cnnkit.data.columns import PathIndex, Rows, Texts
from cnnkit.data.image import UndecodableError
from cnnkit.data.progress import Progress, count_files
from cnnkit.data.shards.named_addresses import name_address
from cnnkit.data.shards.pattern import expand
from cnnkit.data.shards.remote import RemoteSpans
from cnnkit.data.source import Record
from cnnkit.data.sources.spans import FileSpans, SpanFile, Spans
from cnnkit.errors import DataError, listed

Given = TypeVar("Given")
Result = TypeVar("Result")
THREADS = 8  # that open or list files at a time
BUFFER_BYTES = 16_384  # of a file on this machine: a header of a tar and the small members behind it
MAX_SMALL_BYTES = 10_000_000
MAX_NAMED = 3  # missing files in an error


class ShardFile(NamedTuple):
    """One file of a data set: its path, its `name` without the folders that all files share, and its bytes."""

    path: str
    name: str
    spans: Spans

    def open(self) -> BinaryIO:
        """Return the bytes as an open file."""
        return cast("BinaryIO", io.BufferedReader(SpanFile(self.spans), getattr(self.spans, "buffer_bytes", BUFFER_BYTES)))


def open_files(pattern: str, data: str, progress: Progress | None = None) -> list[ShardFile]:
    """Return the files that `pattern` names; `data` is the value of ``--data``. `progress` is told of a network that fails.

    Raises `DataError` if one is missing or cannot be opened.
    """
    with_passwords(pattern)  # an error names the pattern rather than its first file
    name_address(pattern)
    paths = expand(pattern)
    opened = in_threads(lambda path: _open(path, progress), paths)
    missing = [path for path, spans in zip(paths, opened, strict=True) if spans is None]
    if missing:
        number = "the file is" if len(paths) == 1 else f"{len(missing):,} of {len(paths):,} files are"
        raise DataError(f"--data {data}: {number} missing: {listed(missing, MAX_NAMED)}; correct the range, or fetch them again")
    shared = shared_folder(paths)
    return [ShardFile(path, path[len(shared) :], spans) for path, spans in zip(paths, opened, strict=True) if spans]


class RowFinder:
    """The row of an image by its path, and its file: file i has the `counts[i]` rows behind those of the files before it."""

    def __init__(self, paths: Texts, counts: Sequence[int], name: str) -> None:
        self._paths, self._ends, self._name = paths, np.cumsum(counts), name

    def find(self, record: Record) -> tuple[int, int]:
        """Return the row of an image and the number of its file; raises `UndecodableError` if there is no such image."""
        try:
            row = self._index.row(record.path)
        except KeyError:
            raise UndecodableError(f"no such image in {self._name}") from None
        return row, int(np.searchsorted(self._ends, row, "right"))

    def find_all(self, paths: Texts) -> tuple[Rows, Rows]:
        """Return the row of every image (N,) and the number of its file; a part of the records of the source is found at once."""
        rows = self._index.rows(paths)
        return rows, np.searchsorted(self._ends, rows, "right")

    @property
    def is_unique(self) -> bool:
        """True if every image has a path of its own."""
        return not self._index.has_repeats()

    @cached_property
    def _index(self) -> PathIndex:
        return PathIndex(self._paths)


def shared_folder(paths: Sequence[str]) -> str:
    """Return the folders that all `paths` begin with, with a ``/`` at the end, or an empty text."""
    levels = zip(*(path.split("/")[:-1] for path in paths), strict=False)
    return "".join(f"{level[0]}/" for level in takewhile(lambda level: len(set(level)) == 1, levels))


def in_threads(function: Callable[[Given], Result], values: Collection[Given], progress: Progress | None = None) -> list[Result]:
    """Return `function` of each value, computed by several threads; `progress` counts the values as files."""
    found: list[Result] = []
    count_files(progress, 0, len(values))
    with ThreadPoolExecutor(THREADS) as threads:
        for each in threads.map(function, values):
            found.append(each)
            count_files(progress, len(found), len(values))
    return found


def read_small(path: str) -> bytes | None:
    """Return the content of a file of at most `MAX_SMALL_BYTES`; None if there is no such file."""
    spans = _open(path)
    if spans is None:
        return None
    if spans.size > MAX_SMALL_BYTES:
        raise DataError(f"{path}: {spans.size / 1e6:,.0f} MB are too much for a list of class names; expected one name a line")
    return spans.read(0, spans.size)


def _open(path: str, progress: Progress | None = None) -> Spans | None:
    """Return the bytes of one file; None if there is no such file."""
    try:
        return RemoteSpans(path, progress) if "://" in path else FileSpans(Path(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
