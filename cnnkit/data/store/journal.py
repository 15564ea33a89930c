"""The journal of a store: one JSON object a line with its checksum, so that a torn line counts as not written."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


def encode(entry: Entry) -> bytes:
    """Return the line of `entry`."""
    text = json.dumps(entry).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read(file: Path) -> tuple[list[Entry], int]:
    """Return the entries before the first line that is incomplete or damaged, and the size of their lines in bytes.

    Raises `OSError` if the file cannot be read.
    """
    entries: list[Entry] = []
    size = 0
    for line in file.read_bytes().splitlines(keepends=True):
        checksum, _, text = line[:-1].partition(b" ")
        if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
            break
        entries.append(json.loads(text))
        size += len(line)
    return entries, size
