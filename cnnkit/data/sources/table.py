"""Tables of images: a CSV with the columns ``path,label[,split][,group]``. No image file is opened before it is read."""

from __future__ import annotations

import os
import unicodedata
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnkit.data.columns import RecordColumns
from cnnkit.data.csv_file import NO_COLUMN, CsvFile, open_csv
from cnnkit.data.image import UndecodableError, read_file
from cnnkit.data.source import ALIASES, SPLITS, Record, Request, SourceKind, one_form
from cnnkit.data.sources.folder import file_stamp
from cnnkit.data.sources.same_file import same_files
from cnnkit.errors import DataError, closest, left_out_note


class TableSource:
    """The images in the rows of the CSV `path`; their paths are relative to its folder, or absolute.

    `group_by` may name the column of groups, by default ``group``. Raises a `DataError` that names the file and the line.
    """

    def __init__(self, path: Path, group_by: str = "") -> None:
        if not path.is_file():
            raise DataError(f"--data {path}: no such file; expected a CSV with the columns path,label[,split][,group]")
        self.name = str(path)
        self._folder = str(path.parent)
        with open_csv(path, self.name) as file:
            table = _Table(file, self._folder, group_by)
            table.read()
        self.records = table.records
        self.notes = table.notes()

    def read(self, record: Record) -> bytes:
        """Return the bytes of one file."""
        path = self._path(record)
        try:
            return read_file(path)
        except UndecodableError as error:
            if os.path.lexists(path):
                raise
            raise UndecodableError(f"{error}: {path}{_cause(record.path, self._folder)}") from None

    def stamp(self, record: Record) -> str:
        """Return size and modification time of one file."""
        return file_stamp(self._path(record))

    def _path(self, record: Record) -> str:
        """Return the path of a file; a name in another Unicode form serves if there is no file of the name as written."""
        path = os.path.join(self._folder, record.path)  # noqa: PTH118 (a million calls are usual)
        if path.isascii() or os.path.lexists(path):
            return path
        forms = (unicodedata.normalize(form, path) for form in ("NFC", "NFD"))
        return next(filter(os.path.lexists, forms), path)


def _cause(path: str, folder: str) -> str:
    """Return the likely cause why no file has the `path` of a table in `folder`, and the way out."""
    if "://" in path:
        return "; this is an address: download the images first"
    if path.startswith("~"):
        return "; ~ has no meaning in a table: write the whole path"
    if "\\" in path:
        return "; the path has backslashes: write / between folders"
    if path.startswith("/"):
        return ""
    if folder != "." and os.path.lexists(path):
        return f"; paths are relative to the folder of the CSV, {folder}, and this one fits the current folder: move the CSV here"
    return f"; paths are relative to the folder of the CSV, {folder}"


@dataclass(frozen=True)
class _Columns:
    """The indices of the known columns."""

    path: int
    label: int
    split: int
    group: int


class _Table:
    """A table during reading: its records and the line of each."""

    def __init__(self, file: CsvFile, folder: str, group_by: str) -> None:
        self._file = file
        self._name = file.name
        self._folder = folder
        self._inside = os.path.join(os.path.abspath(folder), "")  # noqa: PTH100,PTH118 (links must not be resolved)
        self._group_by = group_by
        self._lines = array("Q")
        self._repeated = 0
        self.records = RecordColumns.of(())

    def read(self) -> None:
        """Read every row; a million take some seconds."""
        columns = self._columns()
        self.records = RecordColumns.of(self._rows(columns))
        if not self.records:
            raise DataError(f"{self._name}: there are no rows below the column names; add a row for each image")
        self._leave_out_repeated()
        self._check_splits()
        if self._group_by and columns.group != NO_COLUMN and self.records.groups.present() == [None]:
            raise DataError(f"{self._name}: --group-by {self._group_by}: the column is empty in every row")

    def notes(self) -> tuple[str, ...]:
        return (left_out_note(self._repeated, "row", "with the content of another"),) if self._repeated else ()

    def _columns(self) -> _Columns:
        file = self._file
        path, label, split, group = map(file.column, ("path", "label", "split", "group"))
        for name, index in (("path", path), ("label", label)):
            if index == NO_COLUMN:
                raise DataError(
                    f"{self._name}: no column {name!r}{closest(name, file.columns)} Its first line must name the columns "
                    f"path,label[,split][,group] in any order; it has: {', '.join(map(repr, file.header)) or 'nothing'}"
                )
        wanted = self._group_by.strip().lower()
        return _Columns(path, label, split, file.column(wanted) if wanted else group)

    def _rows(self, columns: _Columns) -> Iterator[Record]:
        """Yield the record of every row, and note its line."""
        shared: dict[str, str] = {}  # a million rows hold the same few labels: keep each text once
        for cells in self._file.rows():
            path, label = cells[columns.path], cells[columns.label]
            if path[:1] in {"/", "."} or "//" in path or "/./" in path:
                path = self._plain(path)
            label = shared.get(label) or self._text(label, "label", shared)
            if not path or not label:
                raise DataError(f"{self._file.here}: the {'label' if path else 'path'} is empty")
            split = self._split(cells[columns.split]) if columns.split != NO_COLUMN else None
            group = cells[columns.group] if columns.group != NO_COLUMN else ""
            group = group and (shared.get(group) or self._text(group, "group", shared))
            self._lines.append(self._file.line)
            yield Record(path, label, split, group or None)

    def _text(self, cell: str, column: str, shared: dict[str, str]) -> str:
        """Return the name in `cell`, which `shared` keeps; raises `DataError` if it is not UTF-8."""
        self._file.check_text(cell, column)
        return shared.setdefault(cell, one_form(cell.strip()))

    def _split(self, cell: str) -> str | None:
        split = ALIASES.get(cell) or ALIASES.get(cell.strip().lower())
        if split is None and cell.strip():
            allowed = ", ".join(SPLITS)
            raise DataError(f"{self._file.here}: unknown split {cell!r}{closest(cell, ALIASES)} Allowed: {allowed}, or empty in every row")
        return split

    def _plain(self, path: str) -> str:
        """Return `path` without ``.`` and empty parts, relative to the table's folder, or absolute if it is outside of the folder."""
        if "://" in path:  # an address, which the error for a missing file names
            return path
        path = path.removeprefix(self._inside)
        parts = [part for part in path.split("/") if part not in {"", "."}]
        return f"{'/' if path.startswith('/') else ''}{'/'.join(parts)}"

    def _leave_out_repeated(self) -> None:
        """Leave out rows of a file that an earlier row has, under any spelling; raises `DataError` if the two rows differ."""
        repeated = same_files(self._folder, self.records.paths)
        for row, earlier in repeated.items():
            self._check_repeat(row, earlier)
        if repeated:
            kept = np.setdiff1d(np.arange(len(self.records)), list(repeated))
            self._repeated = len(repeated)
            self.records = self.records.take(kept)
            self._lines = array("Q", (self._lines[row] for row in kept.tolist()))

    def _check_repeat(self, row: int, earlier: int) -> None:
        one, other = self.records[earlier], self.records[row]
        for column in ("label", "split", "group"):
            old, new = getattr(one, column), getattr(other, column)
            if old != new:
                same = "" if one.path == other.path else f", where the same file is called {one.path!r}"
                raise DataError(
                    f"{self._name}, line {self._lines[row]}: {other.path!r} has the {column} {new or ''!r}, but {old or ''!r} "
                    f"in line {self._lines[earlier]}{same}; keep one"
                )

    def _check_splits(self) -> None:
        without = np.flatnonzero(self.records.splits.isin({None}))
        if len(without) and len(without) < len(self.records):
            raise DataError(
                f"{self._name}: {len(without):,} of {len(self.records):,} rows have no split, the first in line {self._lines[without[0]]}; "
                f"fill in train, val or test in every row, or leave the column empty and let cnnkit split"
            )


def _open(request: Request) -> TableSource:
    return TableSource(Path(request.name), request.group_by)


table = SourceKind(
    open=_open,
    summary="a CSV with the columns path,label[,split][,group]; paths relative to its folder, or absolute",
    unnamed="name the file, such as --data images.csv",
)
