"""Tables of images: a CSV with the columns ``path,label[,split][,group]``. No image file is opened before it is read."""

from __future__ import annotations

import csv
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from cnnkit.data.image import read_file
from cnnkit.data.source import ALIASES, SPLITS, Record, Request, SourceKind
from cnnkit.data.sources.folder import file_stamp
from cnnkit.errors import DataError, closest

if TYPE_CHECKING:
    from _csv import Reader

DELIMITERS = ",;\t"  # spreadsheets write semicolons where the comma is the decimal sign
_NO_COLUMN = -1  # the index of a missing column


class TableSource:
    """The images in the rows of the CSV `path`; their paths are relative to its folder, or absolute.

    `group_by` may name the column of groups, by default ``group``. Raises a `DataError` that names the file and the line.
    """

    def __init__(self, path: Path, group_by: str = "") -> None:
        if not path.is_file():
            raise DataError(f"--data {path}: no such file; expected a CSV with the columns path,label[,split][,group]")
        self.name = str(path)
        self._folder = str(path.parent)
        try:
            with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
                table = _Table(file, self.name, group_by)
                table.read()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
        self.records: Sequence[Record] = tuple(table.records)
        self.notes = table.notes()

    def read(self, record: Record) -> bytes:
        """Return the bytes of one file."""
        return read_file(os.path.join(self._folder, record.path))  # noqa: PTH118 (a million calls are usual)

    def stamp(self, record: Record) -> str:
        """Return size and modification time of one file."""
        return file_stamp(os.path.join(self._folder, record.path))  # noqa: PTH118 (as above)


@dataclass(frozen=True)
class _Columns:
    """The number of columns, and the indices of the known columns."""

    width: int
    path: int
    label: int
    split: int
    group: int


class _Table:
    """A table during reading: its records and the line of each."""

    def __init__(self, file: TextIO, name: str, group_by: str) -> None:
        self._name = name
        self._inside = os.path.join(os.path.abspath(os.path.dirname(name)), "")  # noqa: PTH100,PTH118,PTH120 (links must not be resolved)
        self._header = file.readline()
        if "\0" in self._header:
            raise DataError(f"{name}: not a CSV in UTF-8 (UTF-16, perhaps); save it as 'CSV UTF-8'")
        self._delimiter = _delimiter(self._header)
        self._reader: Reader = csv.reader(chain([self._header], file), delimiter=self._delimiter)
        self._group_by = group_by
        self._lines = array("Q")
        self._repeated = 0
        self.records: list[Record] = []

    def read(self) -> None:
        """Read every row; a million take some seconds."""
        try:
            columns = self._columns(next(self._reader, []))
            self._read_rows(columns)
        except csv.Error as error:
            raise DataError(f"{self._here()}: {error}; is a quotation mark left open?") from None
        if not self.records:
            raise DataError(f"{self._name}: there are no rows below the column names; add a row for each image")
        self._check_splits()
        if self._group_by and columns.group != _NO_COLUMN and all(record.group is None for record in self.records):
            raise DataError(f"{self._name}: --group-by {self._group_by}: the column is empty in every row")

    def notes(self) -> tuple[str, ...]:
        return (f"{self._repeated:,} rows that repeat another were left out",) if self._repeated else ()

    def _columns(self, header: list[str]) -> _Columns:
        names = [name.strip().lower() for name in header]
        for name in ("path", "label", "split", "group"):
            if names.count(name) > 1:
                raise DataError(f"{self._name}: two columns are named {name!r}; keep one")
        for name in ("path", "label"):
            if name not in names:
                raise DataError(
                    f"{self._name}: no column {name!r}{closest(name, names)} Its first line must name the columns "
                    f"path,label[,split][,group] in any order; it has: {', '.join(map(repr, header)) or 'nothing'}"
                )
        wanted = self._group_by.strip().lower()
        group = _column_index(names, wanted) if wanted else _column_index(names, "group")
        return _Columns(len(names), names.index("path"), names.index("label"), _column_index(names, "split"), group)

    def _read_rows(self, columns: _Columns) -> None:
        seen: dict[str, int] = {}
        shared: dict[str, str] = {}  # a million rows hold the same few labels: keep each text once
        for cells in self._reader:
            if len(cells) != columns.width:
                if not cells:
                    continue
                self._refuse_width(cells, columns.width)
            path, label = cells[columns.path], cells[columns.label].strip()
            if path[:1] in {"/", "."}:
                path = self._plain(path)
            if not path or not label:
                raise DataError(f"{self._here()}: the {'label' if path else 'path'} is empty")
            split = self._split(cells[columns.split]) if columns.split != _NO_COLUMN else None
            group = cells[columns.group].strip() if columns.group != _NO_COLUMN else None
            record = Record(path, shared.setdefault(label, label), split, shared.setdefault(group, group) if group else None)
            row = seen.setdefault(path, len(self.records))
            if row < len(self.records):
                self._repeat(row, record)
            else:
                self.records.append(record)
                self._lines.append(self._reader.line_num)

    def _split(self, cell: str) -> str | None:
        split = ALIASES.get(cell) or ALIASES.get(cell.strip().lower())
        if split is None and cell.strip():
            allowed = ", ".join(SPLITS)
            raise DataError(f"{self._here()}: unknown split {cell!r}{closest(cell, ALIASES)} Allowed: {allowed}, or empty in every row")
        return split

    def _plain(self, path: str) -> str:
        """Return `path` relative to the table's folder and without a leading ``./``, or absolute if it is outside of the folder."""
        path = path.removeprefix(self._inside)
        while path.startswith("./"):
            path = path[2:].lstrip("/")
        return path

    def _repeat(self, row: int, record: Record) -> None:
        """Count a row that equals the earlier row of the same image; raises `DataError` if they differ."""
        earlier = self.records[row]
        for column in ("label", "split", "group"):
            old, new = getattr(earlier, column), getattr(record, column)
            if old != new:
                line = self._lines[row]
                raise DataError(
                    f"{self._here()}: {record.path!r} has the {column} {new or ''!r}, but {old or ''!r} in line {line}; keep one"
                )
        self._repeated += 1

    def _check_splits(self) -> None:
        without = [row for row, record in enumerate(self.records) if record.split is None]
        if without and len(without) < len(self.records):
            raise DataError(
                f"{self._name}: {len(without):,} of {len(self.records):,} rows have no split, the first in line {self._lines[without[0]]}; "
                f"fill in train, val or test in every row, or leave the column empty and let cnnkit split"
            )

    def _refuse_width(self, cells: list[str], width: int) -> None:
        raise DataError(
            f"{self._here()}: {len(cells)} cells, but the first line names {width} columns; "
            f"put a cell that contains {self._delimiter!r} into quotation marks"
        )

    def _here(self) -> str:
        return f"{self._name}, line {self._reader.line_num}"


def _delimiter(header: str) -> str:
    """Return the most frequent delimiter of the first line, by default a comma."""
    return max(DELIMITERS, key=header.count)


def _column_index(names: list[str], name: str) -> int:
    return names.index(name) if name in names else _NO_COLUMN


def _open(request: Request) -> TableSource:
    if not request.name:
        raise DataError("--data csv: name the file, such as --data images.csv")
    return TableSource(Path(request.name), request.group_by)


table = SourceKind(open=_open, summary="a CSV with the columns path,label[,split][,group]; paths relative to its folder, or absolute")
