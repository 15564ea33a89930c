"""The history of a training, history.csv: one row per epoch, from epoch 0 if the last layer was fitted, else from epoch 1."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cnnkit.errors import ModelFileError
from cnnkit.files import csv_text, read_checked, remove_file, write_bytes, write_csv
from cnnkit.run_dir.document import UPGRADE


def _empty_to_none(value: object) -> object:
    return None if value == "" else value


Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
IfEvaluated = BeforeValidator(_empty_to_none)  # the field is empty if the epoch was not evaluated


class HistoryRow(BaseModel):
    """The columns of history.csv for one epoch, in the units of `cnnkit.engine.fit.EpochResult`; a loss may be NaN or infinite."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True, defer_build=True)

    epoch: int = Field(ge=0)
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


def read_history(file: Path, remedy: str, last: int | None = None) -> list[HistoryRow]:
    """Return the rows of `file` up to the epoch `last`, by default all rows; the list is empty until the first epoch has ended.

    Raises `ModelFileError` that names the row, the column and the `remedy` if a row is damaged.
    """
    texts = _text_rows(file, remedy)
    first = 0 if texts and texts[0].get("epoch") == "0" else 1
    chosen = texts if last is None else texts[: last + 1 - first]
    return [_row(file, number, values, remedy, first) for number, values in enumerate(chosen, 1)]


def append_history(file: Path, row: HistoryRow) -> None:
    """Add one epoch to `file`, which is replaced as a whole; raises `DamagedFileError` if its present content is damaged."""
    try:
        rows = read_checked(file)
    except FileNotFoundError:
        rows = b""
    added = csv_text(HISTORY, [row.model_dump()]).encode()
    write_bytes(file, rows + added[added.index(b"\n") + 1 :] if rows else added)


def write_history(file: Path, rows: list[HistoryRow]) -> None:
    """Replace `file` by `rows`; without rows, remove it."""
    if rows:
        write_csv(file, HISTORY, (row.model_dump() for row in rows))
    else:
        remove_file(file)


def _text_rows(file: Path, remedy: str) -> list[dict[str | None, str | None]]:
    """Return the rows as text: None if a row ends before a column, and any values after the last column under the key None."""
    try:
        reader = csv.DictReader(io.StringIO(read_checked(file, remedy).decode("utf-8"), newline=""))
        rows: list[dict[str | None, str | None]] = [dict(row) for row in reader]
        columns = list(reader.fieldnames or HISTORY)
    except FileNotFoundError:  # no epoch has ended
        return []
    except OSError as error:
        raise ModelFileError(f"{file}: cannot be read: {error.strerror or error}; {remedy}") from None
    except (ValueError, csv.Error) as error:
        raise ModelFileError(f"{file}: not a CSV file in UTF-8 ({error}); {remedy}") from None
    if missing := [column for column in HISTORY if column not in columns]:
        raise ModelFileError(f"{file}: no column {missing[0]} in its first line; {remedy}")
    if unknown := [column for column in columns if column not in HISTORY]:
        problem = f"column {unknown[0]!a} is unknown to this version of cnnkit; if a newer version wrote it: {UPGRADE}"
        raise ModelFileError(f"{file}: {problem}; {remedy}")
    return rows


def _row(file: Path, number: int, values: dict[str | None, str | None], remedy: str, first: int) -> HistoryRow:
    """Return the text `values` as row `number`, counted from 1; the epochs are counted from `first`."""
    if None in values:
        raise _row_error(file, number, " has more values than columns", remedy)
    try:
        row = HistoryRow.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        value, message = problem["input"], problem["msg"].replace("Input should be", "must be").partition(",")[0]
        reason = "is missing, because the row ends early" if value is None else f"(={value!a}) {message}"
        raise _row_error(file, number, f", column {problem['loc'][0]} {reason}", remedy) from None
    if row.epoch != number - 1 + first:
        problem = f", column epoch (={row.epoch}) must be {number - 1 + first}, because each epoch has one row, in order"
        raise _row_error(file, number, problem, remedy)
    return row


def _row_error(file: Path, number: int, problem: str, remedy: str) -> ModelFileError:
    return ModelFileError(f"{file}: row {number}{problem}; {remedy}")
