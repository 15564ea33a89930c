"""Records of millions of images in a few arrays, which make the object of a record only when it is asked for.

A record object takes hundreds of bytes; a row of the columns takes its path and some 16 bytes. docs/benchmarks/LOG.md has the figures.
"""

from __future__ import annotations

import zlib
from abc import abstractmethod
from array import array
from collections.abc import Container, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice, pairwise
from typing import Generic, Self, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from cnnkit.data.source import Record

Row = TypeVar("Row")
Rows = NDArray[np.int64]
BLOCK_ROWS = 4096  # rows that an iteration makes objects of at a time


def encoded(text: str) -> bytes:
    """Return `text` as columns store it; bytes that are no UTF-8 are kept (PEP 383)."""
    return text.encode("utf-8", "surrogateescape")


class Columns(Sequence[Row], Generic[Row]):
    """A sequence of N rows that are stored as arrays; a slice and `take` give a view without a copy of the texts."""

    @abstractmethod
    def take(self, rows: Rows) -> Self:
        """Return the `rows` (n,), in their order."""

    @abstractmethod
    def block(self, start: int, stop: int) -> Iterable[Row]:
        """Return the objects of the rows from `start` to `stop`."""

    def one(self, row: int) -> Row:
        """Return the object of one row."""
        return next(iter(self.block(row, row + 1)))

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Row | Self:
        """Return one row, or a view of a slice."""
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise IndexError(index)
        return self.one(row)

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(self.block(start, min(start + BLOCK_ROWS, len(self))) for start in range(0, len(self), BLOCK_ROWS))

    def __eq__(self, other: object) -> bool:
        """Return True for a sequence of the same rows."""
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        rows = cast("Sequence[object]", other)
        return len(self) == len(rows) and all(one == another for one, another in zip(self, rows, strict=True))

    __hash__ = None  # pyright: ignore[reportAssignmentType] (equal to a tuple, which has another hash)


class Texts(Columns[str]):
    """N texts as UTF-8 in one `blob`: text i is from `bounds[i]` to `bounds[i + 1]`, of a view from `bounds[rows[i]]`.

    Bytes that are no UTF-8 are kept (PEP 383).
    """

    def __init__(self, blob: NDArray[np.uint8], bounds: Rows, rows: Rows | None = None) -> None:
        self.blob, self.bounds, self.rows = blob, bounds, rows

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """Return the columns of `texts`."""
        if isinstance(texts, Texts):
            return texts
        made = TextsBuilder()
        remaining = iter(texts)
        while block := list(islice(remaining, BLOCK_ROWS)):
            made.extend(block)
        return made.build()

    @classmethod
    def join(cls, parts: Sequence[Texts]) -> Texts:
        """Return the concatenation of columns that are no views."""
        ends = np.cumsum([0, *(len(part.blob) for part in parts)])
        bounds = [part.bounds[:-1] + end for part, end in zip(parts, ends, strict=False)]
        return cls(np.concatenate([part.blob for part in parts]), np.concatenate([*bounds, ends[-1:]]))

    def __len__(self) -> int:
        return len(self.bounds) - 1 if self.rows is None else len(self.rows)

    def take(self, rows: Rows) -> Texts:
        """Return a view of the `rows` (n,)."""
        return Texts(self.blob, self.bounds, rows if self.rows is None else self.rows[rows])

    def stored(self, start: int, stop: int) -> list[bytes]:
        """Return the bytes of the texts from `start` to `stop`."""
        if self.rows is None:
            bounds = self.bounds[start : stop + 1].tolist()
            first = bounds[0]
            blob = self.blob[first : bounds[-1]].tobytes()
            return [blob[begin - first : end - first] for begin, end in pairwise(bounds)]
        rows = self.rows[start:stop]
        pairs = zip(self.bounds[rows].tolist(), self.bounds[rows + 1].tolist(), strict=True)
        return [self.blob[begin:end].tobytes() for begin, end in pairs]

    def block(self, start: int, stop: int) -> list[str]:
        """Return the texts from `start` to `stop`."""
        return [text.decode("utf-8", "surrogateescape") for text in self.stored(start, stop)]

    def one(self, row: int) -> str:
        """Return one text."""
        place = row if self.rows is None else int(self.rows[row])
        return self.blob[self.bounds[place] : self.bounds[place + 1]].tobytes().decode("utf-8", "surrogateescape")

    def compact(self) -> Texts:
        """Return the texts without those that a view leaves out, in their order."""
        if self.rows is None:
            return self
        sizes, blob = np.diff(self.bounds)[self.rows], bytearray()
        for start in range(0, len(self), BLOCK_ROWS):
            blob += b"".join(self.stored(start, min(start + BLOCK_ROWS, len(self))))
        return Texts(np.frombuffer(blob, np.uint8), np.concatenate([[0], np.cumsum(sizes)]))

    def rows_of(self, texts: Texts) -> Rows:
        """Return the row of each of `texts` (n,), -1 for a text that is not here; of two rows of one text the later one."""
        hashes, wanted = self._hashes(), texts._hashes()
        order = np.argsort(hashes, kind="stable")
        found = np.searchsorted(hashes, wanted, "right", order) - 1
        rows = order[found] if len(order) else np.full(len(texts), -1, np.int64)
        return np.where((found >= 0) & (hashes[rows] == wanted), rows, -1) if len(order) else rows

    def _hashes(self) -> Rows:
        """Return 64 bits of each text; Python's hash has a secret, so nobody can make two texts of one hash."""
        return np.fromiter(map(hash, self.all_stored()), np.int64, len(self))

    def all_stored(self) -> Iterator[bytes]:
        """Yield the bytes of every text."""
        return chain.from_iterable(self.stored(start, min(start + BLOCK_ROWS, len(self))) for start in range(0, len(self), BLOCK_ROWS))


class TextsBuilder:
    """Texts that come one by one."""

    def __init__(self) -> None:
        self._blob, self._sizes = bytearray(), array("q")

    def append(self, text: str) -> None:
        """Add one text."""
        stored = encoded(text)
        self._blob += stored
        self._sizes.append(len(stored))

    def extend(self, texts: Iterable[str]) -> None:
        """Add several texts."""
        stored = [encoded(text) for text in texts]
        self._blob += b"".join(stored)
        self._sizes.extend(map(len, stored))

    def build(self) -> Texts:
        """Return the columns of all texts; nothing can be added any more."""
        bounds = np.concatenate([[0], np.cumsum(np.frombuffer(self._sizes, np.int64))])
        return Texts(np.frombuffer(self._blob, np.uint8), bounds)


class Codes(Columns[str | None]):
    """N values of a few different `names`, None among them: value i is `names[codes[i]]`."""

    def __init__(self, codes: NDArray[np.integer], names: Sequence[str | None]) -> None:
        self.codes, self.names = codes, tuple(names)

    @classmethod
    def of(cls, values: Iterable[str | None]) -> Codes:
        """Return the columns of `values`, with the names in the order of their first value."""
        if isinstance(values, Codes):
            return values
        index: dict[str | None, int] = {}
        codes = np.fromiter((index.setdefault(value, len(index)) for value in values), np.int64)
        return cls(codes.astype(np.min_scalar_type(max(len(index) - 1, 0))), tuple(index))

    @classmethod
    def join(cls, parts: Sequence[Codes]) -> Codes:
        """Return the values of `parts`, one after the other."""
        names = list(dict.fromkeys(name for part in parts for name in part.names))
        number = {name: code for code, name in enumerate(names)}
        codes = [np.array([number[name] for name in part.names], np.int64)[part.codes] for part in parts if len(part)]
        return cls(np.concatenate([np.empty(0, np.int64), *codes]).astype(np.min_scalar_type(max(len(names) - 1, 0))), names)

    @classmethod
    def constant(cls, value: str | None, number: int) -> Codes:
        """Return `number` times the same value."""
        return cls(np.zeros(number, np.uint8), (value,))

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: Rows) -> Codes:
        """Return the values of the `rows` (n,)."""
        return Codes(self.codes[rows], self.names)

    def block(self, start: int, stop: int) -> list[str | None]:
        """Return the values from `start` to `stop`."""
        return [self.names[code] for code in self.codes[start:stop].tolist()]

    def one(self, row: int) -> str | None:
        """Return one value."""
        return self.names[self.codes[row]]

    def isin(self, names: Container[str | None]) -> NDArray[np.bool_]:
        """Return a mask (N,) of the values that are among `names`."""
        return np.array([name in names for name in self.names], np.bool_)[self.codes] if len(self) else np.empty(0, np.bool_)

    def present(self) -> list[str | None]:
        """Return the names that a row has."""
        used = np.bincount(self.codes, minlength=len(self.names)) if len(self.codes) else []
        return [name for name, count in zip(self.names, used, strict=False) if count]


class RecordColumns(Columns[Record]):
    """Records in columns: their paths, labels, splits and groups."""

    def __init__(self, paths: Texts, labels: Codes, splits: Codes | None = None, groups: Codes | None = None) -> None:
        self.paths, self.labels = paths, labels
        self.splits = splits or Codes.constant(None, len(paths))
        self.groups = groups or Codes.constant(None, len(paths))

    @classmethod
    def of(cls, records: Iterable[Record]) -> RecordColumns:
        """Return the columns of `records`."""
        if isinstance(records, RecordColumns):
            return records
        remaining = iter(records)
        paths, labels, splits, groups = [Texts.of(())], [Codes.of(())], [Codes.of(())], [Codes.of(())]
        while block := list(islice(remaining, BLOCK_ROWS)):
            for parts, values in zip((labels, splits, groups), list(zip(*block, strict=True))[1:], strict=True):
                parts.append(Codes.of(values))
            paths.append(Texts.of(record.path for record in block))
        return cls(Texts.join(paths), Codes.join(labels), Codes.join(splits), Codes.join(groups))

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Rows) -> RecordColumns:
        """Return the records of the `rows` (n,)."""
        return RecordColumns(self.paths.take(rows), self.labels.take(rows), self.splits.take(rows), self.groups.take(rows))

    def block(self, start: int, stop: int) -> Iterator[Record]:
        """Return the records from `start` to `stop`."""
        codes = self.labels, self.splits, self.groups
        return map(Record._make, zip(self.paths.block(start, stop), *(column.block(start, stop) for column in codes), strict=True))

    def one(self, row: int) -> Record:
        """Return one record."""
        return Record(self.paths.one(row), self.labels.one(row) or "", self.splits.one(row), self.groups.one(row))


class PathIndex:
    """The rows of `paths` by path: 8 bytes a row, where a dictionary takes 100."""

    def __init__(self, paths: Texts) -> None:
        self._paths = paths

    def row(self, path: str) -> int:
        """Return the row of `path`, the first one of several; raises `KeyError` if there is none."""
        rows, hashes = self._sorted
        stored = encoded(path)
        wanted = np.uint32(zlib.crc32(stored))
        first, last = hashes.searchsorted(wanted), hashes.searchsorted(wanted, "right")
        for row in rows[first:last].tolist():
            if self._paths.stored(row, row + 1)[0] == stored:
                return row
        raise KeyError(path)

    def rows(self, paths: Texts) -> Rows:
        """Return the row of each path (n,); those of the indexed texts themselves and of a view of them are found at once."""
        if paths is self._paths:
            return np.arange(len(paths))
        if paths.blob is self._paths.blob and paths.rows is not None and self._paths.rows is None:
            return paths.rows
        return np.array([self.row(path) for path in paths], np.int64)

    def repeats(self) -> dict[int, int]:
        """Return, for each row whose path an earlier row has, the first such row."""
        rows, hashes = self._sorted
        same = np.flatnonzero(hashes[1:] == hashes[:-1])
        alike = np.unique(rows[np.union1d(same, same + 1)]).tolist()
        first: dict[bytes, int] = {}
        found = {row: first.setdefault(self._paths.stored(row, row + 1)[0], row) for row in alike}
        return {row: earlier for row, earlier in found.items() if row != earlier}

    def has_repeats(self) -> bool:
        """Return True if two rows have one path."""
        return bool(self.repeats())

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """The rows by 32 bits of a checksum, and these checksums, by which rows are found before their paths tell them apart."""
        hashes = np.fromiter(map(zlib.crc32, self._paths.all_stored()), np.uint32, len(self._paths))
        rows = np.argsort(hashes, kind="stable").astype(np.uint32)
        return rows, hashes[rows]
