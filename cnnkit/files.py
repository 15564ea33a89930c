"""Files that appear under their name only when they are whole, the text of tables, and what tells one file from another."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """Yield the name to write to; `path` becomes that file when the body ends well, else it stays as it was."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
        part.replace(path)
    finally:
        with suppress(OSError):  # it has got its name, or was never made
            part.unlink()


def csv_text(columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Return `rows` as CSV (RFC 4180) under a header of `columns`; raises `ValueError` for a row with another column."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of what the file `path` holds, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
