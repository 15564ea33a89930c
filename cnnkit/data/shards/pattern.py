"""Patterns of ``--data`` that name many files: brace ranges such as ``{0000..1023}``, lists such as ``{a,b}``, and ``*``."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path

from cnnkit.data.shards.remote import matching
from cnnkit.data.sources.layout import natural_order
from cnnkit.errors import DataError

MAX_FILES = 1_000_000  # that a pattern may name; a wrong number of digits would else fill the memory
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
# In an address a ? begins the query, and three stars stand for a password.
_GLOB, _REMOTE_GLOB = re.compile(r"[*?\[]"), re.compile(r"(?<!\*)\*{1,2}(?!\*)")


def expand(pattern: str) -> list[str]:
    """Return the files that `pattern` names: those of braces in their order, whether they exist or not, those of ``*`` in natural order.

    Raises `DataError` for a range that runs backwards, for more than `MAX_FILES` files, and for a ``*`` that fits no file.
    """
    found: list[str] = []
    for name in _without_braces(pattern, pattern):
        found += _matches(name, pattern) if (_REMOTE_GLOB if "://" in name else _GLOB).search(name) else [name]
        if len(found) > MAX_FILES:
            raise DataError(f"--data {pattern}: names more than {MAX_FILES:,} files; name fewer and larger ones")
    return list(dict.fromkeys(found))


def _without_braces(text: str, pattern: str) -> Iterator[str]:
    """Yield `text` with each choice of its innermost braces, from the first."""
    braces = _BRACES.search(text)
    if braces is None:
        yield text
        return
    for choice in _choices(braces[1], pattern):
        yield from _without_braces(f"{text[: braces.start()]}{choice}{text[braces.end() :]}", pattern)


def _choices(inside: str, pattern: str) -> Iterator[str]:
    limits = _RANGE.fullmatch(inside)
    if limits is None:
        yield from inside.split(",")
        return
    first, last = int(limits[1]), int(limits[2])
    if last < first:
        raise DataError(f"--data {pattern}: the range {{{inside}}} runs backwards; write the smaller number first")
    width = len(limits[1]) if limits[1].startswith("0") else 0
    yield from (f"{number:0{width}d}" for number in range(first, last + 1))


def _matches(name: str, pattern: str) -> list[str]:
    if "://" in name:
        found = natural_order(matching(name))
        advice = "correct the address"
    else:
        paths = glob.glob(name, recursive=True)  # noqa: PTH207 (the pattern may be absolute)
        found = natural_order([path for path in paths if Path(path).is_file()])
        advice = f"list the folder with: ls {Path(name).parent}"
    if not found:
        raise DataError(f"--data {pattern}: no file fits {name}; {advice}")
    return found
