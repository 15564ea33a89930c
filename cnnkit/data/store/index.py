"""The index of a store in columns: path, stamp and facts of every row, in two binary files that are mapped and not parsed.

A row of the first file has a fixed size, and says where the texts of its path and stamp end in the second. Words such as ``JPEG`` and the
reasons for unreadable images stand in the journal once each, and rows hold their numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.columns import Codes, Columns, Rows, Texts
from cnnkit.data.store.facts import Facts

Key = tuple[str, str]  # path and stamp of an image
ROWS_FILE, TEXTS_FILE = "rows.bin", "texts.bin"
NO_WORD = 0  # the number of the empty word
SEPARATOR = "\0"  # between path and stamp
HASH_BYTES = 32  # of a SHA-256
READ_ROWS = 65_536  # at a time, so that a check of the index maps nothing
_WORDS = ("error", "format", "mode")
# In the order of the fields of `Facts`, behind the end of the texts of a row.
_FIELDS: dict[str, str] = {
    "sha256": f"V{HASH_BYTES}",
    "error": "<u4",
    "bytes": "<i8",
    "width": "<i4",
    "height": "<i4",
    "mean": "<f8",
    "std": "<f8",
    "sharpness": "<f8",
    "format": "<u4",
    "mode": "<u4",
    "orientation": "<i4",
    "animated": "?",
    "quality": "<i4",
    "tones": "<i4",
    "taken": "<f8",
}
_NUMBERS = [name for name in _FIELDS if name not in {"sha256", *_WORDS}]
ROW = np.dtype([("end", "<i8"), *_FIELDS.items()])


class HashColumns(Columns[str]):
    """Hashes of contents as SHA-256 in hex, each stored in 32 bytes; an empty text for an unreadable image."""

    def __init__(self, stored: NDArray[np.void]) -> None:
        self.stored = stored

    @classmethod
    def of(cls, digests: Iterable[bytes]) -> HashColumns:
        """Return the columns of digests of `HASH_BYTES` each."""
        return cls(np.frombuffer(b"".join(digests), f"V{HASH_BYTES}"))

    def __len__(self) -> int:
        return len(self.stored)

    def take(self, rows: Rows) -> HashColumns:
        """Return the hashes of the `rows` (n,)."""
        return HashColumns(self.stored[rows])

    def block(self, start: int, stop: int) -> list[str]:
        """Return the hashes from `start` to `stop`."""
        return [content.hex() if any(content) else "" for content in self.stored[start:stop].tolist()]

    def starts(self) -> NDArray[np.uint64]:
        """Return the first 64 bits of each hash as a number, so that their order is that of the hashes."""
        return np.ascontiguousarray(self.stored).view(">u8").reshape(-1, HASH_BYTES // 8)[:, 0].astype(np.uint64)

    def first_rows(self) -> Rows:
        """Return for each row (N,) the first row of the same content; every unreadable image is a content of its own."""
        starts = self.starts()
        order = np.argsort(starts, kind="stable")
        alike = starts[order[1:]] == starts[order[:-1]]
        same = alike.copy()
        same[alike] = self.stored[order[1:][alike]] == self.stored[order[:-1][alike]]
        if (alike & ~same).any():  # two contents of one start, or unreadable images beside a content that starts with zeros
            order = np.lexsort(np.ascontiguousarray(self.stored).view("<u8").reshape(-1, HASH_BYTES // 8).T)
            same = self.stored[order[1:]] == self.stored[order[:-1]]
        new = np.concatenate([np.ones(min(1, len(order)), np.bool_), ~same])
        first = np.empty(len(order), np.int64)
        first[order] = order[new][np.cumsum(new) - 1]
        unreadable = self.stored == np.zeros(1, self.stored.dtype)[0]
        first[unreadable] = np.flatnonzero(unreadable)
        return first


class FactColumns(Columns[Facts]):
    """The facts of N images: rows of `ROW` and the `words` that they number; the `rows` of a view."""

    def __init__(self, array: NDArray[np.void], words: Sequence[str], rows: Rows | None = None) -> None:
        self.array, self.words, self.rows = array, list(words), rows

    @classmethod
    def of(cls, facts: Iterable[Facts]) -> FactColumns:
        """Return the columns of `facts`."""
        if isinstance(facts, FactColumns):
            return facts
        words = Words()
        return cls(pack(list(facts), np.empty(0, np.int64), words), words.all)

    def __len__(self) -> int:
        return len(self.array) if self.rows is None else len(self.rows)

    def take(self, rows: Rows) -> FactColumns:
        """Return a view of the `rows` (n,)."""
        return FactColumns(self.array, self.words, rows if self.rows is None else self.rows[rows])

    def block(self, start: int, stop: int) -> Iterator[Facts]:
        """Return the facts from `start` to `stop`."""
        part = self.array[start:stop] if self.rows is None else self.array[self.rows[start:stop]]
        columns: dict[str, Sequence[Any]] = {name: part[name].tolist() for name in _NUMBERS}
        columns |= {name: [self.words[number] for number in part[name].tolist()] for name in _WORDS}
        columns["sha256"] = HashColumns(part["sha256"]).block(0, len(part))
        return map(Facts._make, zip(*(columns[name] for name in Facts._fields), strict=True))

    def one(self, row: int) -> Facts:
        """Return the facts of one image."""
        _, content, error, *rest = self.array[row if self.rows is None else self.rows[row]].item()
        values: list[Any] = rest
        values[6], values[7] = self.words[values[6]], self.words[values[7]]
        return Facts(content.hex() if any(content) else "", self.words[error], *values)

    def column(self, name: str) -> NDArray[Any]:
        """Return one column (N,) of `ROW`."""
        column = self.array[name]
        return np.ascontiguousarray(column) if self.rows is None else column[self.rows]

    def codes(self, name: str) -> Codes:
        """Return the words (N,) of the column `name`, one of ``error``, ``format`` and ``mode``."""
        return Codes(self.column(name), self.words)

    @property
    def readable(self) -> NDArray[np.bool_]:
        """For every row (N,) whether its image could be read."""
        return self.column("error") == NO_WORD

    @property
    def hashes(self) -> HashColumns:
        """The hashes of the contents (N,)."""
        return HashColumns(self.column("sha256"))


class KeyColumns(Columns[Key]):
    """Path and stamp of N images, as texts of both."""

    def __init__(self, texts: Texts) -> None:
        self.texts = texts

    @classmethod
    def of(cls, keys: Iterable[Key]) -> KeyColumns:
        """Return the columns of `keys`."""
        return keys if isinstance(keys, KeyColumns) else cls(Texts.of(SEPARATOR.join(key) for key in keys))

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Rows) -> KeyColumns:
        """Return a view of the `rows` (n,)."""
        return KeyColumns(self.texts.take(rows))

    def block(self, start: int, stop: int) -> Iterator[Key]:
        """Return the keys from `start` to `stop`."""
        return (cast("Key", text.partition(SEPARATOR)[::2]) for text in self.texts.block(start, stop))

    def rows_of(self, keys: KeyColumns) -> Rows:
        """Return the row of each of `keys` (n,), -1 for a key that is not here; of two rows of one key the later one."""
        return self.texts.rows_of(keys.texts)


class Words:
    """Words with numbers, the first of which is the empty word."""

    def __init__(self, known: Iterable[str] = ("",)) -> None:
        self.all = list(known)
        self._number = {word: number for number, word in enumerate(self.all)}

    def number(self, word: str) -> int:
        """Return the number of `word`, a new one if it is not known."""
        if word not in self._number:
            self._number[word] = len(self.all)
            self.all.append(word)
        return self._number[word]


def pack(facts: Sequence[Facts], ends: Rows, words: Words) -> NDArray[np.void]:
    """Return rows of `ROW` with `facts` (n,) and, unless it is empty, the `ends` (n,) of their texts; `words` gets new ones."""
    array = np.zeros(len(facts), ROW)
    if len(ends):
        array["end"] = ends
    for name in _NUMBERS:
        array[name] = [getattr(item, name) for item in facts]
    for name in _WORDS:
        array[name] = [words.number(getattr(item, name)) for item in facts]
    joined = b"".join(bytes.fromhex(item.sha256).ljust(HASH_BYTES, b"\0") for item in facts)
    array["sha256"] = np.frombuffer(joined, f"V{HASH_BYTES}")
    return array


def checksum(rows: bytes, texts: bytes) -> int:
    """Return the checksum of a part of both files."""
    return zlib.crc32(texts, zlib.crc32(rows))


def read_index(folder: Path, parts: Sequence[tuple[int, int, int]]) -> tuple[NDArray[np.void], Rows]:
    """Return the mapped rows of a store, and the bounds of their texts (N + 1,).

    `parts` are the first row, the row behind the last one and the checksum of each part in order. Raises `ValueError` if one is damaged,
    `OSError` if a file cannot be read.
    """
    count = parts[-1][1] if parts else 0
    bounds = np.zeros(count + 1, np.int64)
    with (folder / ROWS_FILE).open("rb") as rows, (folder / TEXTS_FILE).open("rb") as texts:
        for start, stop, expected in parts:
            found = 0
            for first in range(start, stop, READ_ROWS):
                last = min(first + READ_ROWS, stop)
                stored = rows.read((last - first) * ROW.itemsize)
                bounds[first + 1 : last + 1] = np.frombuffer(stored, ROW)["end"]
                found = zlib.crc32(stored, found)
            left = int(bounds[stop] - bounds[start])
            while left > 0:
                piece = texts.read(min(left, READ_ROWS * 64))
                if not piece:
                    raise ValueError("the texts are truncated")
                found, left = zlib.crc32(piece, found), left - len(piece)
            if found != expected or left < 0:
                raise ValueError("a part of the index is damaged")
    array = np.memmap(folder / ROWS_FILE, ROW, "r", 0, (count,)) if count else np.empty(0, ROW)
    return array, bounds


def mapped_texts(folder: Path, bounds: Rows) -> Texts:
    """Return the texts of a store, mapped."""
    size = int(bounds[-1])
    blob = np.memmap(folder / TEXTS_FILE, np.uint8, "r", 0, (size,)) if size else np.empty(0, np.uint8)
    return Texts(blob, bounds)
