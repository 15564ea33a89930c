"""The files that the words of a command line name: paths, patterns, and ``-`` for the paths on standard input."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from cnnkit.errors import DataError, shell_path, shell_word

STANDARD_INPUT = "-"
PACKED_SUFFIXES = (".tar", ".parquet")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def named_files(words: Iterable[str]) -> list[Path]:
    """Return the paths that `words` name, in order; a pattern stands for the paths that match it, in natural order.

    Paths on standard input are separated by line ends, or by NUL as ``find -print0`` writes them. Raises `DataError` for a URL, for a
    pattern without a match, and for a standard input without paths.
    """
    return [path for word in words for path in (_on_standard_input() if word == STANDARD_INPUT else _matches(word))]


def _on_standard_input() -> Iterator[Path]:
    content = sys.stdin.buffer.read()
    separator = b"\0" if b"\0" in content else b"\n"
    names = [os.fsdecode(line.rstrip(b"\r")) for line in content.split(separator) if line.strip()]
    if not names:
        raise DataError("-: standard input names no files; give one path a line: ls photos/*.jpg | cnnkit predict -")
    for name in names:
        _refuse_url(name)
        yield Path(name)


def _matches(word: str) -> list[Path]:
    _refuse_url(word)
    if not glob.has_magic(word) or os.path.lexists(word):
        return [Path(word)]
    from cnnkit.data.sources.layout import natural_key

    found = sorted(glob.glob(word, recursive=True), key=natural_key)  # noqa: PTH207 (a pattern may be absolute)
    if not found:
        raise DataError(f"{word}: no file matches this pattern; name image files, or folders of images")
    return [Path(name) for name in found]


def _refuse_url(word: str) -> None:
    if _URL.match(word):
        name = PurePosixPath(word.partition("?")[0]).name or "photo.jpg"
        if name.lower().endswith(PACKED_SUFFIXES):
            raise DataError(f"{word}: shards or parquet files, of which labelled images are read: cnnkit eval --data {shell_word(word)}")
        raise DataError(f"{word}: a URL, and cnnkit reads only files; download it first, then type: cnnkit predict {shell_path(name)}")
