"""Writer of the table split.csv, and reader of an earlier table: ``--split-file``, any CSV with the columns path and split."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from cnnkit.data.source import ALIASES, Record
from cnnkit.data.split.split import Sample
from cnnkit.errors import DataError
from cnnkit.files import csv_text

COLUMNS = ("path", "label", "split", "sha256")


def split_rows(samples: Sequence[Sample]) -> list[dict[str, str]]:
    """Return the rows of split.csv."""
    return [{"path": s.path, "label": s.label, "split": s.split, "sha256": s.sha256} for s in samples]


def split_text(samples: Sequence[Sample]) -> str:
    """Return the content of split.csv."""
    return csv_text(COLUMNS, split_rows(samples))


def read_pins(file: Path, records: Sequence[Record], hashes: Sequence[str]) -> tuple[list[str | None], tuple[str, ...]]:
    """Return the split of every record in `file`, None if it is not listed, and notes on images that are missing in either.

    A record is found by its path, else by its content (column sha256), so that a renamed image keeps its split. Raises `DataError` if
    `file` is no table of splits or contradicts a split of the source.
    """
    by_path, by_content = _read(file)
    pins: list[str | None] = []
    found: set[str] = set()
    for record, content in zip(records, hashes, strict=True):
        split = by_path.get(record.path)
        found.add(record.path)
        if split is None:
            split = by_content.get(content)
        if split and record.split and split != record.split:
            raise DataError(
                f"--split-file {file}: it puts {record.path} into {split}, but the data into {record.split}; "
                f"leave --split-file out, or move the image"
            )
        pins.append(split)
    if not any(pins):
        raise DataError(
            f"--split-file {file}: none of its {len(by_path):,} paths is in the data, such as {next(iter(by_path), 'none')}; "
            f"the data has paths such as {records[0].path}"
        )
    new, gone = pins.count(None), sum(path not in found for path in by_path)
    notes = []
    if new:
        notes.append(f"{new:,} images are not in {file}; they were assigned by --split")
    if gone:
        notes.append(f"{gone:,} images of {file} are missing or renamed in the data")
    return pins, tuple(notes)


def _read(file: Path) -> tuple[dict[str, str], dict[str, str]]:
    by_path: dict[str, str] = {}
    by_content: dict[str, str] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
            reader = csv.DictReader(text)
            columns = reader.fieldnames or []
            missing = [name for name in ("path", "split") if name not in columns]
            if missing:
                raise DataError(
                    f"--split-file {file}: no column {' or '.join(missing)}; it has: {', '.join(columns) or 'nothing'}; "
                    f"cnnkit split DATA writes such a file"
                )
            for row in reader:
                split = ALIASES.get((row["split"] or "").strip().lower())
                if split is None:
                    raise DataError(f"--split-file {file}, line {reader.line_num}: {row['split']!r} is no split; allowed: train, val, test")
                by_path[row["path"]] = split
                if row.get("sha256"):
                    by_content[row["sha256"]] = split
    except OSError as error:
        raise DataError(f"--split-file {file}: cannot be read: {error.strerror or error}") from None
    return by_path, by_content
