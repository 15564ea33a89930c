"""The file of ``cnnkit predict --out``, written row by row: CSV, JSON or parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import Any, TextIO

from cnnkit.errors import MissingExtraError
from cnnkit.files import json_text, utf8, whole_file

SUFFIXES = (".csv", ".json", ".parquet")
GROUP_ROWS = 10_000  # of a group of parquet, which is in memory
Row = Mapping[str, Any]
Put = Callable[[Row], object]


@contextmanager
def row_file(path: Path, columns: Sequence[str]) -> Generator[Put]:
    """Yield a function that writes one row; the complete file appears at `path` at the end of the body, if no error occurred.

    All rows have the `columns`, which stand in a CSV or parquet file without rows too. Raises `OSError` if the file cannot be written.
    """
    rows = {".csv": _csv_rows, ".json": _json_rows, ".parquet": _parquet_rows}[path.suffix.lower()]
    with whole_file(path) as part, rows(part, columns) as put:
        yield put


def require_packages(path: Path) -> None:
    """Raise `MissingExtraError` if the package that writes `path` is not installed."""
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def _open(path: Path) -> TextIO:
    r"""Open a file in UTF-8; an invalid byte of a file name becomes an escape such as ``\udcff``."""
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


@contextmanager
def _csv_rows(path: Path, columns: Sequence[str]) -> Generator[Put]:
    with _open(path) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        yield lambda row: writer.writerow([_cell(row[name]) for name in columns])


@contextmanager
def _json_rows(path: Path, columns: Sequence[str]) -> Generator[Put]:
    del columns  # every object has its names
    with _open(path) as file:
        start = "[\n  "

        def put(row: Row) -> None:
            nonlocal start
            file.write(start + json_text(row).rstrip("\n").replace("\n", "\n  "))
            start = ",\n  "

        yield put
        file.write("[]\n" if start.startswith("[") else "\n]\n")


@contextmanager
def _parquet_rows(path: Path, columns: Sequence[str]) -> Generator[Put]:
    arrow, parquet = _pyarrow()
    schema = _schema(arrow, map(_text, columns))
    pending: list[dict[str, Any]] = []

    with parquet.ParquetWriter(path, schema) as writer:

        def put(row: Row) -> None:
            pending.append({_text(name): _text(row[name]) for name in columns})
            if len(pending) >= GROUP_ROWS:
                write()

        def write() -> None:
            writer.write_table(arrow.Table.from_pylist(pending, schema=schema))
            pending.clear()

        yield put
        if pending:
            write()


def _schema(arrow: Any, columns: Iterable[str]) -> Any:
    """Return the types of the `columns`; all that are not named here are probabilities."""
    texts, lists = dict.fromkeys(("path", "predicted", "error"), arrow.string()), {"label_set": arrow.list_(arrow.string())}
    types = {"abstained": arrow.bool_(), **texts, **lists}
    return arrow.schema([(name, types.get(name, arrow.float64())) for name in columns])


def _text(value: Any) -> Any:
    r"""Return a text of parquet, which is UTF-8: an invalid byte of a file name becomes an escape such as ``\udcff``."""
    return utf8(value).decode() if isinstance(value, str) else value


def _cell(value: object) -> object:
    """Return a value for a CSV cell: booleans in lower case and lists as JSON; other values stay, and None becomes an empty cell."""
    if isinstance(value, list):
        return dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else value


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("--out x.parquet needs the package pyarrow: pip install 'cnnkit[parquet]'") from None
    return pa, parquet
