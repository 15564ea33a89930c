"""Files that appear under their name only when they are whole, the text of tables, and what tells one file from another."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cnnkit.errors import CnnkitError, ConfigError

_SURROGATE = re.compile(r"[\ud800-\udfff]")


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


def check_writable(out: Path) -> None:
    """Make the folder `out` if need be and write to it; raises `ConfigError` if that fails."""
    probe = out / f".write-test-{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)  # another thread of this process may have tried as well
    except OSError as error:
        raise ConfigError(
            f"--out {out}: cannot write there ({error.strerror or error}); name a folder you may write to: --out FOLDER"
        ) from None


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON; the file appears under its name only when it is whole. NaN and infinity are refused."""
    write_text(path, json_text(value))


def json_text(value: object) -> str:
    r"""Return `value` as a JSON document in UTF-8; a byte of a file name that is no UTF-8 becomes an escape such as ``\udcff``.

    Python reads it back as the name that `open` takes (PEP 383). Raises `ValueError` for NaN and infinity.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write `rows` as CSV under a header of `columns`; whole or not at all."""
    write_text(path, csv_text(columns, rows))


def class_columns(classes: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Return one column name per class: its name, or ``class NAME`` where a column of another meaning has that name."""
    reserved = set(taken)
    return [f"class {name}" if name in reserved else name for name in classes]


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8; whole or not at all.

    File names that are no UTF-8 keep their bytes. Raises `CnnkitError` if it cannot be written.
    """
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; raises `CnnkitError` if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.write_bytes(content)
    except OSError as error:
        raise CnnkitError(f"{path}: cannot be written: {error.strerror or error}") from None
