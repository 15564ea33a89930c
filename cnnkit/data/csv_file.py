"""The one reader of CSV files that people and other programs write: tables of images, files of splits."""

from __future__ import annotations

import csv
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import TextIO

from cnnkit.errors import DataError, shell_path
from cnnkit.files import open_regular, restored

DELIMITERS = ",;\t"  # spreadsheets write semicolons where the comma is the decimal sign
MAX_LINE_LENGTH = 2**20  # characters; a file without line ends would fill the memory
NO_COLUMN = -1  # the index of a missing column
_DELIMITER_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # a first line by which Excel names the delimiter
_SURROGATE = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8 (PEP 383)


class CsvFile:
    r"""The open CSV `file`: UTF-8 with or without a byte order mark; commas, semicolons or tabs; any line ends.

    An escape such as ``\udcff``, which `cnnkit.files.utf8` writes, is a byte that is not UTF-8. `name` begins every error. `header` is
    the first line as it is written, `columns` its names in lower case without spaces around.
    """

    def __init__(self, file: TextIO, path: Path, name: str) -> None:
        self.name = name
        self._path = path
        lines = iter(partial(self._line, file), "")
        first = next(lines, "")
        given = _DELIMITER_LINE.fullmatch(first)
        first = next(lines, "") if given else first
        if "\0" in first:
            raise DataError(f"{name}: not a CSV in UTF-8 (UTF-16, perhaps); save it as 'CSV UTF-8'")
        self._delimiter = given[1] if given else max(DELIMITERS, key=first.count)
        self._lines_above = 1 if given else 0
        self._reader = csv.reader(map(restored, chain([first], lines)), delimiter=self._delimiter)
        self.header: list[str] = next(self._reader, [])
        self.columns = [column.strip().lower() for column in self.header]

    def _line(self, file: TextIO) -> str:
        line = file.readline(MAX_LINE_LENGTH)
        if len(line) == MAX_LINE_LENGTH:
            raise DataError(f"{self.name}: a line of more than {MAX_LINE_LENGTH:,} characters; is this a CSV?")
        return line

    @property
    def line(self) -> int:
        """The number of the last line read, from 1."""
        return self._reader.line_num + self._lines_above

    @property
    def here(self) -> str:
        """The file and the last line read, for an error."""
        return f"{self.name}, line {self.line}"

    def column(self, name: str) -> int:
        """Return the index of a column, or `NO_COLUMN`; raises `DataError` if two columns have the name."""
        if self.columns.count(name) > 1:
            raise DataError(f"{self.name}: two columns are named {name!r}; keep one")
        return self.columns.index(name) if name in self.columns else NO_COLUMN

    def rows(self) -> Iterator[Sequence[str]]:
        """Yield the cells of every row that is not empty; raises `DataError` for a row of another width."""
        width = len(self.columns)
        for cells in self._reader:
            if len(cells) == width:
                yield cells
            elif cells:
                raise DataError(
                    f"{self.here}: {len(cells)} cells, but the first line names {width} columns; "
                    f"put a cell that contains {self._delimiter!r} into quotation marks"
                )

    def check_text(self, value: str, what: str) -> None:
        """Raise a `DataError` with the line and the way out unless `value`, named `what`, is UTF-8."""
        if _SURROGATE.search(value):
            stored = value.encode("utf-8", "surrogateescape")
            file, copy = (shell_path(path) for path in (self._path, self._path.with_stem(f"{self._path.stem}-utf8")))
            raise DataError(
                f"{self.here}: the {what} {stored!r} is not UTF-8; in Windows-1252 it is {stored.decode('cp1252', 'replace')!r}. "
                f"Save the file as 'CSV UTF-8', or type: iconv -f WINDOWS-1252 -t UTF-8 {file} > {copy}"
            )


@contextmanager
def open_csv(path: Path, name: str) -> Generator[CsvFile]:
    """Open the CSV `path` for the body of the ``with`` statement; `name` begins every error.

    Bytes that are not UTF-8 become surrogates, since file names may hold any bytes. Raises `DataError` if the file cannot be read or is
    no CSV, from the body, too.
    """
    table: CsvFile | None = None
    try:
        with open_regular(path) as opened, TextIOWrapper(opened, "utf-8-sig", "surrogateescape", newline="") as file:
            table = CsvFile(file, path, name)
            yield table
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror or error}") from None
    except csv.Error as error:
        raise DataError(f"{table.here if table else name}: {error}; is a quotation mark left open?") from None
