"""The history of a training, history.csv: one row per epoch."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cnnkit.errors import ModelFileError
from cnnkit.files import write_csv
from cnnkit.run_dir.document import UPGRADE


def _empty_to_none(value: object) -> object:
    return None if value == "" else value


Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
IfEvaluated = BeforeValidator(_empty_to_none)  # an empty field where the epoch was not


class HistoryRow(BaseModel):
    """One epoch: the columns of history.csv, as of `cnnkit.engine.fit.EpochResult`; a loss may be NaN or infinite."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True, defer_build=True)

    epoch: int = Field(ge=1)
    step: int = Field(ge=0)
    lr: Finite
    train_loss: float
    train_accuracy: Share
    val_loss: Annotated[float | None, IfEvaluated]
    val_accuracy: Annotated[Share | None, IfEvaluated]
    seconds: Finite
    images_per_second: Finite
    is_best: bool


HISTORY = tuple(HistoryRow.model_fields)


def read_history(file: Path, remedy: str, epochs: int | None = None) -> list[HistoryRow]:
    """Return the rows of `file`, or the first `epochs` of them; empty before the first epoch has ended.

    Raises `ModelFileError` that names row and column of a damaged one, and the way out, `remedy`.
    """
    if not file.exists():
        return []
    return [_row(file, number, read, remedy) for number, read in enumerate(_text_rows(file, remedy)[:epochs], 1)]


def append_history(file: Path, row: HistoryRow) -> None:
    """Add one epoch to `file`."""
    new = not file.exists() or not file.stat().st_size
    with file.open("a", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, HISTORY)
        if new:
            writer.writeheader()
        writer.writerow(row.model_dump())


def write_history(file: Path, rows: list[HistoryRow]) -> None:
    """Write `file` anew; without a row it is removed."""
    if rows:
        write_csv(file, HISTORY, (row.model_dump() for row in rows))
    else:
        file.unlink(missing_ok=True)


def _text_rows(file: Path, remedy: str) -> list[dict[str | None, str | None]]:
    """Return the rows as text, None where one ends early, under the key None the values beyond the last column."""
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            reader = csv.DictReader(opened)
            rows: list[dict[str | None, str | None]] = [dict(row) for row in reader]
            columns = list(reader.fieldnames or HISTORY)
    except OSError as error:
        raise ModelFileError(f"{file}: cannot be read: {error.strerror or error}; {remedy}") from None
    except (ValueError, csv.Error) as error:
        raise ModelFileError(f"{file}: no CSV file in UTF-8 ({error}); {remedy}") from None
    if missing := [column for column in HISTORY if column not in columns]:
        raise ModelFileError(f"{file}: no column {missing[0]} in its first line; {remedy}")
    if unknown := [column for column in columns if column not in HISTORY]:
        raise ModelFileError(f"{file}: column {unknown[0]!a} is none that this cnnkit knows; if a newer one wrote it: {UPGRADE}; {remedy}")
    return rows


def _row(file: Path, number: int, read: dict[str | None, str | None], remedy: str) -> HistoryRow:
    """Return the row `number`, counted from 1: the row of the epoch of that number."""
    if None in read:
        raise _damaged(file, number, " has more values than columns", remedy)
    try:
        row = HistoryRow.model_validate(read)
    except ValidationError as error:
        problem = error.errors()[0]
        value, said = problem["input"], problem["msg"].replace("Input should be", "must be").partition(",")[0]
        told = "is missing: the row ends before it" if value is None else f"(={value!a}) {said}"
        raise _damaged(file, number, f", column {problem['loc'][0]} {told}", remedy) from None
    if row.epoch != number:
        raise _damaged(file, number, f", column epoch (={row.epoch}) must be {number}: one row for each epoch, in their order", remedy)
    return row


def _damaged(file: Path, number: int, problem: str, remedy: str) -> ModelFileError:
    return ModelFileError(f"{file}: row {number}{problem}; {remedy}")
