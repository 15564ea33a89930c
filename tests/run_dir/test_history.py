"""The history of a training: rows are read as they were written, and the error for a damaged row names its column."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from cnnkit.errors import ModelFileError
from cnnkit.run_dir import HISTORY, HistoryRow, RunDir

MakeRow = Callable[..., HistoryRow]
REMEDY = "; restore the file from a copy; if only the last row is cut off, this command repairs it: cnnkit resume "


def written(run: RunDir, make_row: MakeRow, epochs: int) -> list[HistoryRow]:
    """Append `epochs` rows to the history of `run` and return them."""
    rows = [make_row(epoch=epoch, val_loss=1 / epoch) for epoch in range(1, epochs + 1)]
    for row in rows:
        run.append_history(row)
    return rows


def refusal(run: RunDir) -> str:
    """Return the problem in the error message for the history of `run`, without file and remedy."""
    with pytest.raises(ModelFileError) as caught:
        run.read_history()
    assert str(caught.value).startswith(f"{run.history}: ")
    assert str(caught.value).endswith(f"{REMEDY}{run.path}")
    return str(caught.value).removeprefix(f"{run.history}: ").removesuffix(f"{REMEDY}{run.path}")


def test_history_grows_by_a_row_per_epoch_under_one_header(tmp_path: Path, make_row: MakeRow) -> None:
    run = RunDir(tmp_path)
    assert run.read_history() == []
    rows = written(run, make_row, 3)
    lines = run.history.read_text().splitlines()
    assert lines[0] == "epoch,step,lr,train_loss,train_accuracy,val_loss,val_accuracy,seconds,images_per_second,is_best"
    assert len(lines) == 4
    assert run.read_history() == rows
    assert rows[2].val_loss == 1 / 3


def test_the_columns_are_the_fields_of_a_row() -> None:
    assert tuple(HistoryRow.model_fields) == HISTORY


def test_an_old_history_is_read(old_run: Path) -> None:
    rows = RunDir(old_run).read_history()
    assert [(row.epoch, row.step, row.is_best) for row in rows] == [(1, 5, True), (2, 10, True), (3, 15, True)]
    assert rows[-1].val_loss == 0.39937353134155273


def test_an_epoch_that_was_not_evaluated_has_empty_fields(tmp_path: Path, make_row: MakeRow) -> None:
    run = RunDir(tmp_path)
    run.append_history(make_row(val_loss=None, val_accuracy=None, is_best=False))
    assert run.history.read_text().splitlines()[1] == "1,10,0.01,1.0,0.5,,,2.5,360.0,False"
    assert run.read_history() == [make_row(val_loss=None, val_accuracy=None, is_best=False)]


def test_a_loss_may_be_nan_or_infinite(tmp_path: Path, make_row: MakeRow) -> None:
    run = RunDir(tmp_path)
    run.append_history(make_row(train_loss=math.inf, val_loss=math.nan))
    (row,) = run.read_history()
    assert row.train_loss == math.inf
    assert row.val_loss is not None
    assert math.isnan(row.val_loss)


def test_a_row_is_frozen_and_has_no_other_columns(make_row: MakeRow) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_row().epoch = 2
    with pytest.raises(ValidationError, match="surprise"):
        make_row(surprise=1)


@pytest.mark.parametrize("column", HISTORY)
@pytest.mark.parametrize("wrong", ["x", "-1", "{}"])
def test_a_wrong_value_is_named_with_row_and_column(tmp_path: Path, make_row: MakeRow, column: str, wrong: str) -> None:
    if wrong == "-1" and column in {"train_loss", "val_loss"}:  # the loss of a plugin may be below 0
        return
    run = RunDir(tmp_path)
    written(run, make_row, 3)
    lines = run.history.read_text().splitlines()
    values = lines[2].split(",")
    values[HISTORY.index(column)] = wrong
    run.history.write_text("\n".join([*lines[:2], ",".join(values), lines[3]]))
    assert refusal(run).startswith(f"row 2, column {column} (='{wrong}') must be ")


@pytest.mark.parametrize("column", [name for name in HISTORY if not name.startswith("val_")])
def test_an_empty_value_is_named(tmp_path: Path, make_row: MakeRow, column: str) -> None:
    run = RunDir(tmp_path)
    written(run, make_row, 1)
    head, line = run.history.read_text().splitlines()
    values = line.split(",")
    values[HISTORY.index(column)] = ""
    run.history.write_text(f"{head}\n{','.join(values)}\n")
    assert refusal(run).startswith(f"row 1, column {column} (='') must be ")


@pytest.mark.parametrize("length", range(1, len(HISTORY)))
def test_a_row_that_is_cut_off_is_named_with_the_column_it_lacks(tmp_path: Path, make_row: MakeRow, length: int) -> None:
    run = RunDir(tmp_path)
    written(run, make_row, 2)
    lines = run.history.read_text().splitlines()
    run.history.write_text("\n".join([*lines[:2], ",".join(lines[2].split(",")[:length])]))
    said = refusal(run)
    lacking = [name for name in HISTORY[length:] if not name.startswith("val_")]
    assert said == f"row 2, column {lacking[0]} is missing, because the row ends early"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda lines: [lines[0], lines[1] + ",1", lines[2]], "row 1 has more values than columns"),
        (lambda lines: [lines[0], lines[2]], "row 1, column epoch (=2) must be 1, because each epoch has one row, in order"),
        (lambda lines: [*lines, lines[2]], "row 3, column epoch (=2) must be 3, because each epoch has one row, in order"),
        (lambda lines: lines[1:], "no column epoch in its first line"),
        (lambda lines: [lines[0].replace("val_loss", "loss"), *lines[1:]], "no column val_loss in its first line"),
        (
            lambda lines: [f"{line},{end}" for line, end in zip(lines, ("new", 1, 2), strict=True)],
            "column 'new' is unknown to this version of cnnkit; if a newer version wrote it: pip install --upgrade cnnkit",
        ),
    ],
    ids=["long row", "lost row", "row twice", "no header", "other header", "new column"],
)
def test_wrong_rows_and_columns_are_named(
    tmp_path: Path, make_row: MakeRow, change: Callable[[list[str]], list[str]], problem: str
) -> None:
    run = RunDir(tmp_path)
    written(run, make_row, 2)
    run.history.write_text("\n".join(change(run.history.read_text().splitlines())))
    assert refusal(run) == problem


def test_a_file_that_is_not_a_table_is_an_error(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.history.write_bytes(b"\xff\xfe")
    with pytest.raises(ModelFileError, match=r"history\.csv: not a CSV file in UTF-8 \('utf-8' codec can't decode"):
        run.read_history()
    run.history.unlink()
    run.history.mkdir()
    with pytest.raises(ModelFileError, match=r"history\.csv: cannot be read: Is a directory; restore the file from a copy"):
        run.read_history()


def test_an_empty_file_is_an_empty_history(tmp_path: Path, make_row: MakeRow) -> None:
    """A training that is killed before its first write leaves an empty file."""
    run = RunDir(tmp_path)
    run.history.touch()
    assert run.read_history() == []
    rows = written(run, make_row, 1)
    assert run.read_history() == rows


# --- the best epoch ---------------------------------------------------------------------------------------------------


def test_the_row_of_the_best_epoch_is_found(tmp_path: Path, make_row: MakeRow) -> None:
    run = RunDir(tmp_path)
    rows = written(run, make_row, 3)
    assert run.best_row(rows, 2) is rows[1]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"val_loss": None}, "row 3, the best epoch, has an empty column val_loss"),
        ({"val_accuracy": None}, "row 3, the best epoch, has an empty column val_accuracy"),
        (None, "row 3, the best epoch, is missing"),
    ],
)
def test_a_best_epoch_without_validation_metrics_is_an_error(
    tmp_path: Path, make_row: MakeRow, values: dict[str, None] | None, problem: str
) -> None:
    run = RunDir(tmp_path)
    rows = [make_row(epoch=1), make_row(epoch=2), *([] if values is None else [make_row(epoch=3, **values)])]
    with pytest.raises(ModelFileError) as caught:
        run.best_row(rows, 3)
    assert str(caught.value) == f"{run.history}: {problem}{REMEDY}{run.path}"


# --- a resumed training -----------------------------------------------------------------------------------------------


def test_history_is_trimmed_to_the_epochs_of_a_resumed_run(tmp_path: Path, make_row: MakeRow) -> None:
    run = RunDir(tmp_path)
    rows = written(run, make_row, 3)
    with run.history.open("a") as file:
        file.write("4,40,0.")  # killed while it was writing
    run.trim_history(2)
    assert run.read_history() == rows[:2]
    run.append_history(rows[2])
    assert run.read_history() == rows
    assert len(run.history.read_text().splitlines()) == 4


def test_a_history_trimmed_to_no_epoch_is_removed_and_starts_again(tmp_path: Path, make_row: MakeRow) -> None:
    run = RunDir(tmp_path)
    run.trim_history(0)
    run.append_history(make_row())
    run.trim_history(0)
    assert not run.history.exists()
    run.append_history(make_row())
    assert len(run.read_history()) == 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda lines: lines[:2], "the file has 1 of the 2 rows that the training wrote"),
        (lambda lines: [*lines[:2], lines[2].replace("0.01", "x")], "row 2, column lr (='x') must be a valid number"),
    ],
)
def test_a_history_without_the_rows_of_a_resumed_run_is_an_error(
    tmp_path: Path, make_row: MakeRow, change: Callable[[list[str]], list[str]], problem: str
) -> None:
    run = RunDir(tmp_path)
    written(run, make_row, 3)
    content = "\n".join(change(run.history.read_text().splitlines()))
    run.history.write_text(content)
    with pytest.raises(ModelFileError) as caught:
        run.trim_history(2)
    assert str(caught.value) == f"{run.history}: {problem}{REMEDY}{run.path}"
    assert run.history.read_text() == content


# --- a history with epoch 0, the fitted start -------------------------------------------------------------------------


@pytest.fixture
def with_start(tmp_path: Path, make_row: MakeRow) -> tuple[RunDir, list[HistoryRow]]:
    run, rows = RunDir(tmp_path), [make_row(epoch=epoch) for epoch in range(3)]
    for row in rows:
        run.append_history(row)
    return run, rows


def test_a_history_may_begin_with_epoch_0(with_start: tuple[RunDir, list[HistoryRow]]) -> None:
    run, rows = with_start
    assert run.read_history() == rows
    assert [run.best_row(rows, epoch).epoch for epoch in range(3)] == [0, 1, 2]
    with pytest.raises(ModelFileError, match="row 4, the best epoch, is missing"):
        run.best_row(rows, 3)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_epoch_0_stays_when_a_resumed_run_trims_its_history(with_start: tuple[RunDir, list[HistoryRow]], epoch: int) -> None:
    run, rows = with_start
    run.trim_history(epoch)
    assert run.read_history() == rows[: epoch + 1]


def test_epoch_0_has_no_gap_after_it(tmp_path: Path, make_row: MakeRow) -> None:
    run = RunDir(tmp_path)
    run.append_history(make_row(epoch=0))
    run.append_history(make_row(epoch=2))
    with pytest.raises(ModelFileError, match=r"row 2, column epoch \(=2\) must be 1, because each epoch has one row"):
        run.read_history()


def test_best_epoch_0_without_epoch_0_is_an_error(tmp_path: Path, make_row: MakeRow) -> None:
    rows = [make_row(epoch=1)]
    with pytest.raises(ModelFileError, match="row 0, the best epoch, is missing"):
        RunDir(tmp_path).best_row(rows, 0)
