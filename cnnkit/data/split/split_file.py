"""Writer of the table split.csv, and reader of an earlier table: ``--split-file``, any CSV with the columns path and split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cnnkit.data.columns import Codes, RecordColumns, Texts, TextsBuilder
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
    return b"".join(map(utf8, csv_parts(COLUMNS, split_rows(samples))))


def read_pins(file: Path, records: Sequence[Record], hashes: Sequence[str]) -> tuple[Codes, tuple[str, ...]]:
    """Return the split of every record in `file`, None if it is not listed, and notes on images that are missing in either.

    A record is found by its path, else by its content (column sha256), so that a renamed image keeps its split. Raises `DataError` if
    `file` is no table of splits or contradicts a split of the source.
    """
    columns = RecordColumns.of(records)
    paths, contents, splits = _read(file)
    rows = paths.rows_of(Texts.of(map(one_form, columns.paths)))
    number = len(np.unique(paths.rows_of(paths)))  # of different paths
    gone = number - len(np.unique(rows[rows >= 0]))
    sought = Texts.of(content for content, row in zip(hashes, rows, strict=True) if row < 0)
    by_content = contents.rows_of(sought)
    by_content[np.diff(sought.bounds) == 0] = -1  # contents that are not known
    rows[rows < 0] = by_content
    pins = Codes(np.append(splits.codes, len(splits.names))[rows], (*splits.names, None))
    _check_fixed(file, columns, pins)
    if pins.present() == [None]:
        example = paths[0] if paths else "none"
        raise DataError(
            f"--split-file {file}: none of its {number:,} paths is in the data, such as {example}; "
            f"the data has paths such as {columns[0].path}{_advice(example, columns)}"
        )
    new = int((rows < 0).sum())
    notes = []
    if new:
        notes.append(f"{counted(new, 'image is', 'images are')} not in {file}; they were assigned by --split")
    if gone:
        notes.append(f"{counted(gone)} of {file} {verb(gone, 'is', 'are')} missing or renamed in the data")
    return pins, tuple(notes)


def _check_fixed(file: Path, records: RecordColumns, pins: Codes) -> None:
    """Raise `DataError` for the first record that `file` puts into another split than the source."""
    wrong = np.zeros(len(records), np.bool_)
    for split in SPLITS:
        wrong |= pins.isin({split}) & ~records.splits.isin({None, split})
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"--split-file {file}: it puts {records[row].path} into {pins[row]}, but the data into {records[row].split}; "
            f"leave --split-file out, or move the image"
        )


def _advice(path: str, records: Sequence[Record]) -> str:
    """Return the likely repair of a `path` that is not in the data; an empty text if nothing is likely."""
    plain = path.replace("\\", "/").removeprefix("./")
    if plain != path and any(record.path == plain for record in records):
        return "; write / between folders, and no ./ at the beginning"
    longer = next((record.path for record in records if plain.endswith(f"/{record.path}")), "")
    if longer:
        return f"; remove {plain.removesuffix(longer)!r} from the beginning of every path"
    return ""


def _read(file: Path) -> tuple[Texts, Texts, Codes]:
    """Return path, content and split of every row; the content is empty where the file has none."""
    paths, contents = TextsBuilder(), TextsBuilder()
    splits: list[str] = []  # of a few texts, which are shared
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
            paths.append(one_form(cells[path]))
            contents.append(cells[content] if content != NO_COLUMN else "")
            splits.append(assigned)
    return paths.build(), contents.build(), Codes.of(splits)
