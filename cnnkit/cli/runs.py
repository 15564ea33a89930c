"""``cnnkit runs``: a table of all runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cnnkit.cli import console
from cnnkit.cli.options import JsonFlag
from cnnkit.errors import counted, shell_path

if TYPE_CHECKING:
    from cnnkit.api.inference.runs import RunFacts
    from cnnkit.metrics.proportion import Estimate

NO_VALUE = "-"
# The columns that a narrow terminal does not show; the first is left out first.
OPTIONAL_COLUMNS = ("ECE %", "T", "recipe", "began", "minutes", "epochs")


def command(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="[PATTERN]", help="Name, architecture, data or recipe of the runs, with * and ?. Default: all runs.", show_default=False
        ),
    ] = "*",
    sort: Annotated[
        Literal["new", "val", "test", "time"],
        typer.Option(
            metavar="new|val|test|time",
            help="Order: the newest first (new), the highest accuracy first (val, test), or the longest training first (time).",
        ),
    ] = "new",
    json: JsonFlag = False,
) -> None:
    """List the runs under $CNNKIT_RUNS or ./runs, with their accuracy.

    \b
    cnnkit runs
    cnnkit runs '*resnet*' --sort val
    """
    from cnnkit.api.inference.runs import list_runs, sort_runs
    from cnnkit.run_dir import runs_folder

    found = sort_runs(list_runs(pattern), sort)
    if json:
        console.print_json({"folder": str(runs_folder()), "runs": [row.to_dict() for row in found]})
        return
    shown = console.out()
    if not found:
        hint = "; train one: cnnkit train --data FOLDER" if pattern == "*" else f" matches {pattern!r}{_hint(Path(pattern))}"
        console.say(shown, f"no run under {runs_folder()}{hint}")
        return
    table, left_out = _fit_columns(found, shown)
    shown.print(table)
    for row in found:
        if row.problem:
            console.say_labelled(console.err(), "damaged", row.problem, "red")
    if left_out:
        console.say(console.err(), f"columns not shown: {', '.join(left_out)}; see them in a wider terminal, or with --json")
    console.say_end(
        console.err(),
        f"{counted(len(found), 'run')} under {runs_folder()}",
        f"cnnkit info {shell_path(found[0].path)}",
    )


Cells = Callable[["RunFacts"], str]


def _columns() -> dict[str, Cells]:
    return {
        "run": lambda row: row.path.name,
        "data": lambda row: Path(row.data).name or row.data,
        "recipe": lambda row: row.recipe,
        "epochs": lambda row: NO_VALUE if row.epochs is None else f"{NO_VALUE if row.best_epoch is None else row.best_epoch}/{row.epochs}",
        "val acc %": lambda row: _interval(row.val_accuracy),
        "test acc %": lambda row: _interval(row.test_accuracy),
        "ECE %": lambda row: NO_VALUE if row.ece is None else f"{100 * row.ece:.1f}",
        "T": lambda row: NO_VALUE if row.temperature is None else f"{row.temperature:.2f}",
        "minutes": lambda row: NO_VALUE if row.seconds is None else f"{row.seconds / 60:.1f}",
        "began": lambda row: NO_VALUE if row.began is None else datetime.fromtimestamp(row.began).astimezone().strftime("%Y-%m-%d %H:%M"),
        "status": lambda row: row.status,
    }


def _hint(path: Path) -> str:
    """Return the command for a pattern that is the path of a run or of a folder; an empty text for another pattern."""
    from cnnkit.run_dir import RunDir

    if RunDir(path).is_run:
        return f"; for this run type: cnnkit info {shell_path(path)}"
    return f"; for the runs of this folder type: CNNKIT_RUNS={shell_path(path)} cnnkit runs" if path.is_dir() else ""


def _fit_columns(rows: Sequence[RunFacts], shown: Console) -> tuple[Table, list[str]]:
    """Return the table with the columns that fit, and the heads of the other columns."""
    columns = _columns()
    left_out: list[str] = []
    table = _table(rows, columns)
    for head in OPTIONAL_COLUMNS:
        if shown.measure(table, options=shown.options.update(width=10_000)).maximum <= shown.width:
            break
        left_out.append(head)
        table = _table(rows, {name: cells for name, cells in columns.items() if name not in left_out})
    return table, left_out


def _table(rows: Sequence[RunFacts], columns: dict[str, Cells]) -> Table:
    from cnnkit.report.terminal.console import escaped

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for head in columns:
        is_text = head in {"run", "data", "recipe", "status", "began"}
        table.add_column(head, justify="left" if is_text else "right", overflow="fold", no_wrap=head not in {"run", "data"})
    for row in rows:
        style = "" if row.status == "finished" else ("red" if row.problem else "yellow")
        table.add_row(*(Text(escaped(cells(row)), style=style) for cells in columns.values()))
    return table


def _interval(estimate: Estimate | None) -> str:
    from cnnkit.report.terminal.numbers import share_text

    return NO_VALUE if estimate is None else share_text(estimate, unit="")
