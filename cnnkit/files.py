"""Reading of regular files, writing of complete files, tables and JSON documents, and the fingerprint of a file."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Never

from cnnkit.errors import CnnkitError, ConfigError

# The record of a run with a million unreadable images takes 150 MB.
MAX_JSON_BYTES = 2**28
_ESCAPE = re.compile(r"\\udc([89a-f][0-9a-f])")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """Yield a temporary name to write to; the file replaces `path` if the body succeeds, else `path` does not change."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
        part.replace(path)
    finally:
        with suppress(OSError):  # the file was renamed or never made
            part.unlink()


def csv_text(columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Return `rows` as CSV (RFC 4180) under a header of `columns`; raises `ValueError` for a row with another column."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of the content of the file `path`, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def open_regular(path: str | Path) -> Generator[BinaryIO]:
    """Open the regular file `path` for reading; raises `OSError` for anything else, as the reading of a pipe or device may never end."""
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 (closed below)
    except ValueError as error:  # a name that no file can have
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_regular(path: str | Path, limit: int) -> bytes:
    """Return the content of the regular file `path`; raises `OSError` as `open_regular`, and for more than `limit` bytes."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than the limit of {limit:,} bytes", str(path))
    return content


def read_json(path: Path) -> Any:
    """Return the value of the JSON document `path`; raises `OSError` as `read_regular`, `ValueError` for any other content."""
    return parse_json(read_regular(path, MAX_JSON_BYTES).decode("utf-8"))


def parse_json(text: str, *, finite: bool = False) -> Any:
    """Return the value of a JSON document; `finite` refuses NaN and infinity, which Python writes and JSON lacks.

    Raises `ValueError` for any other text, and for a document that is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant if finite else None)
    except RecursionError:
        raise ValueError("lists or objects are nested too deeply") from None


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is no number of JSON")


def check_writable(out: Path) -> None:
    """Create the folder `out` if it is missing and write to it; raises `ConfigError` if that fails."""
    probe = out / f".write-test-{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)  # another thread of this process may have removed it
    except OSError as error:
        raise ConfigError(
            f"--out {out}: cannot write there ({error.strerror or error}); name a folder you may write to: --out FOLDER"
        ) from None


def write_json(path: Path, value: object) -> None:
    """Write `value` as a complete JSON file; raises `ValueError` for NaN and infinity."""
    write_text(path, json_text(value))


def json_text(value: object, *, ascii_only: bool = False) -> str:
    r"""Return `value` as a JSON document in UTF-8, or in ASCII if `ascii_only`.

    An invalid byte of a file name becomes an escape such as ``\udcff``, which Python reads as a name that `open` accepts (PEP 383).
    Raises `ValueError` for NaN and infinity.
    """
    text = json.dumps(value, indent=2, ensure_ascii=ascii_only, allow_nan=False) + "\n"
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write `rows` as a complete CSV file under a header of `columns`."""
    write_text(path, csv_text(columns, rows))


def class_columns(classes: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Return one column name per class: its name, or ``class NAME`` if another column has that name."""
    reserved = set(taken)
    return [f"class {name}" if name in reserved else name for name in classes]


def write_text(path: Path, text: str) -> None:
    """Write `text` as a complete UTF-8 file; raise `CnnkitError` if it cannot be written."""
    write_bytes(path, utf8(text))


def utf8(text: str) -> bytes:
    r"""Return `text` in UTF-8; an invalid byte of a file name becomes an escape such as ``\udcff``, as in JSON."""
    return text.encode("utf-8", "backslashreplace")


def restored(text: str) -> str:
    """Return `text` with the invalid bytes that `utf8` escaped, as a name that `open` accepts (PEP 383)."""
    return _ESCAPE.sub(lambda found: chr(0xDC00 + int(found[1], 16)), text) if "\\udc" in text else text


def write_bytes(path: Path, content: bytes) -> None:
    """Write a complete file; raises `CnnkitError` if it cannot be written."""
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.write_bytes(content)


@contextmanager
def write_errors(path: Path) -> Generator[None]:
    """Raise `CnnkitError` that names `path` for an error of the system in the body, which writes it."""
    try:
        yield
    except OSError as error:
        raise CnnkitError(f"{path}: cannot be written: {error.strerror or error}") from None
