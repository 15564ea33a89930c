"""Where output goes: results to stdout, progress and notes to stderr."""

from __future__ import annotations

import json as json_module
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PIPE_WIDTH = 140  # in a pipe there is no width to fit into; wide enough that no table of ours is cut


def out() -> Console:
    """The console of results."""
    return _console(sys.stdout)


def err() -> Console:
    """The console of progress, notes and errors."""
    return _console(sys.stderr)


def print_json(value: object) -> None:
    """Print the one JSON document of ``--json``."""
    sys.stdout.write(json_module.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def note(console: Console, notes: Iterable[str]) -> None:
    """Print one line per note, marked as such; their text is never read as markup."""
    for text in notes:
        console.print(f"[yellow]note[/] {escape(text)}", soft_wrap=True, highlight=False)


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
    return Console(file=stream, width=width, highlight=False)
