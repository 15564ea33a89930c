"""Writer of the table split.csv, and reader of an earlier table: ``--split-file``, any CSV with the columns path and split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

from cnnkit.data.csv_file import NO_COLUMN, open_csv
from cnnkit.data.source import ALIASES, SPLITS, Record, one_form
from cnnkit.data.split.split import Sample
from cnnkit.errors import DataError, counted, verb
from cnnkit.files import csv_parts, utf8

COLUMNS = ("path", "label", "split", "sha256", "unit")


def split_rows(samples: Sequence[Sample]) -> Iterator[dict[str, str]]:
    """Yield the rows of split.csv."""
    return ({"path": s.path, "label": s.label, "split": s.split, "sha256": s.sha256, "unit": s.unit} for s in samples)


def split_csv(samples: Sequence[Sample]) -> bytes:
    """Return the content of split.csv."""
    file = BytesIO()
    file.writelines(map(utf8, csv_parts(COLUMNS, split_rows(samples))))
    return file.getvalue()


def read_pins(file: Path, records: Sequence[Record], hashes: Sequence[str]) -> tuple[list[str | None], tuple[str, ...]]:
    """Return the split of every record in `file`, None if it is not listed, and notes on images that are missing in either.

    A record is found by its path, else by its content (column sha256), so that a renamed image keeps its split. Raises `DataError` if
    `file` is no table of splits or contradicts a split of the source.
    """
    by_path, by_content = _read(file)
    pins: list[str | None] = []
    found: set[str] = set()
    for record, content in zip(records, hashes, strict=True):
        path = one_form(record.path)
        split = by_path.get(path)
        found.add(path)
        if split is None:
            split = by_content.get(content)
        if split and record.split and split != record.split:
            raise DataError(
                f"--split-file {file}: it puts {record.path} into {split}, but the data into {record.split}; "
                f"leave --split-file out, or move the image"
            )
        pins.append(split)
    if not any(pins):
        example = next(iter(by_path), "none")
        raise DataError(
            f"--split-file {file}: none of its {len(by_path):,} paths is in the data, such as {example}; "
            f"the data has paths such as {records[0].path}{_advice(example, records)}"
        )
    new, gone = pins.count(None), sum(path not in found for path in by_path)
    notes = []
    if new:
        notes.append(f"{counted(new, 'image is', 'images are')} not in {file}; they were assigned by --split")
    if gone:
        notes.append(f"{counted(gone)} of {file} {verb(gone, 'is', 'are')} missing or renamed in the data")
    return pins, tuple(notes)


def _advice(path: str, records: Sequence[Record]) -> str:
    """Return the likely repair of a `path` that is not in the data; an empty text if nothing is likely."""
    plain = path.replace("\\", "/").removeprefix("./")
    if plain != path and any(record.path == plain for record in records):
        return "; write / between folders, and no ./ at the beginning"
    longer = next((record.path for record in records if plain.endswith(f"/{record.path}")), "")
    if longer:
        return f"; remove {plain.removesuffix(longer)!r} from the beginning of every path"
    return ""


def _read(file: Path) -> tuple[dict[str, str], dict[str, str]]:
    by_path: dict[str, str] = {}
    by_content: dict[str, str] = {}
    with open_csv(file, f"--split-file {file}") as table:
        path, split, content = map(table.column, ("path", "split", "sha256"))
        missing = [name for name, index in (("path", path), ("split", split)) if index == NO_COLUMN]
        if missing:
            raise DataError(
                f"{table.name}: no column {' or '.join(missing)}; it has: {', '.join(table.header) or 'nothing'}; "
                f"cnnkit split DATA writes such a file"
            )
        for cells in table.rows():
            assigned = ALIASES.get(cells[split].strip().lower())
            if assigned is None:
                raise DataError(f"{table.here}: {cells[split]!r} is no split; allowed: {', '.join(SPLITS)}")
            by_path[one_form(cells[path])] = assigned
            if content != NO_COLUMN and cells[content]:
                by_content[cells[content]] = assigned
    return by_path, by_content
