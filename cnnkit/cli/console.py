"""The console: results go to stdout, progress and notes to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cnnkit.errors import listed
from cnnkit.files import json_text
from cnnkit.report.terminal.console import EscapingConsole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from cnnkit.api.inference.target import Target

LABEL = 8  # cells
BAD_SHOWN = 5  # unreadable images named on the screen
PIPE_WIDTH = 140  # in a pipe there is no width to fit into; wide enough that no table of ours is cut


def out() -> Console:
    """The console of results."""
    return _console(sys.stdout)


def err() -> Console:
    """The console of progress, notes and errors."""
    return _console(sys.stderr)


def print_json(value: object) -> None:
    """Print the one JSON document of ``--json``."""
    sys.stdout.write(json_text(value))


def say(console: Console, text: str) -> None:
    """Print `text`: words wrap on a terminal, and a pipe gets the line whole."""
    console.print(text, soft_wrap=not console.is_terminal)


def say_model(target: Target) -> None:
    """Say on stderr which model a command took, if it was not named."""
    if target.chosen:
        say(err(), f"model {target.path} (the newest finished run)")


def labelled(console: Console, label: str, text: str, style: str = "bold") -> None:
    """Print `text` after a `label` of eight cells, wrapped beside it on a terminal."""
    head = Text(label.ljust(LABEL), style=style)
    if not console.is_terminal:
        console.print(head.append(text, style="not bold default"), soft_wrap=True)
        return
    grid = Table.grid(padding=0)
    grid.add_column(width=LABEL)
    grid.add_column(overflow="fold")
    grid.add_row(head, Text(text))
    console.print(grid)


def say_skipped(console: Console, bad: Sequence[tuple[str, str]], place: str) -> None:
    """Name the first unreadable images, pairs of path and reason; `place` has them all."""
    if not bad:
        return
    labelled(console, "skipped", f"{len(bad)} unreadable {'image' if len(bad) == 1 else 'images'}:", "yellow")
    names = listed((f"{path}: {reason}" for path, reason in bad), BAD_SHOWN, "\n")
    for line in (names + (f", in {place}" if len(bad) > BAD_SHOWN else "")).split("\n"):
        labelled(console, "", line)


@contextmanager
def progress(console: Console, title: str) -> Generator[Callable[[int, int], None]]:
    """Show a bar with images/s while the body runs, on a terminal; yields ``update(done, total)``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal or console.is_dumb_terminal) as bar:
        task = bar.add_task(title, total=None, rate="", visible=False)

        def update(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, total=total, visible=True, rate=f"{speed:,.0f} images/s" if speed else "")

        yield update


def _console(stream: TextIO) -> Console:
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return EscapingConsole(file=stream, width=width)
