"""Complete files: written under a temporary name, flushed, listed in the manifest of their run, and renamed."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path

from cnnkit.files.manifest import listed_replacement
from cnnkit.files.text import csv_parts, json_text, utf8
from cnnkit.files.whole import flush, flush_folder, make_folder, temporary


@contextmanager
def whole_file(path: Path, previous: Path | None = None) -> Generator[Path]:
    """Yield a temporary name to write to; the file replaces `path` if the body succeeds, else `path` does not change.

    The present file is kept as `previous` if that is given. The content and the names are on the disk at the end. Raises `OSError`
    that names `path` if it cannot be written.
    """
    with temporary(path) as part:
        yield part
        flush(part)
        with listed_replacement(part, path, previous) as keeps:
            if previous is not None and keeps:
                _keep(path, previous)
            part.replace(path)
        flush_folder(path.parent)


def _keep(path: Path, previous: Path) -> None:
    """Give the file `path` the second name `previous`; without hard links, the new file must follow before `path` exists again."""
    with temporary(previous) as second:
        try:
            second.hardlink_to(path)
        except OSError:  # a file system without links
            path.replace(previous)
        else:
            second.replace(previous)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a complete file; raises `OSError` if it cannot be written."""
    make_folder(path.parent)
    with whole_file(path) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` as a complete UTF-8 file; raises `OSError` if it cannot be written."""
    write_bytes(path, utf8(text))


def write_json(path: Path, value: object) -> None:
    """Write `value` as a complete JSON file; raises `ValueError` for NaN and infinity."""
    write_text(path, json_text(value))


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write `rows` as a complete CSV file under a header of `columns`."""
    make_folder(path.parent)
    with whole_file(path) as part, part.open("wb") as file:
        file.writelines(map(utf8, csv_parts(columns, rows)))
