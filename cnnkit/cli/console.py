"""The console of the commands: stdout for results, stderr for progress and notes."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.table import Table
from rich.text import Text

from cnnkit.cli.streams import results
from cnnkit.errors import counted, hide_passwords, listed, shell_path
from cnnkit.files import json_text
from cnnkit.report.terminal.console import EscapingConsole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console

    from cnnkit.api.inference.target import Target

LABEL_WIDTH = 8  # cells of a terminal
MAX_ERROR_LENGTH = 4000  # characters of an error, two screens
MAX_BAD_SHOWN = 5  # the number of unreadable images that the screen names
PIPE_WIDTH = 140  # cells of a line in a pipe, which has no width of its own: no table of cnnkit is wider


def out() -> Console:
    """Return the console of results, on stdout."""
    return _console(results())


def err() -> Console:
    """Return the console of progress, notes and errors, on stderr."""
    return _console(sys.stderr)


def print_json(value: object) -> None:
    """Print the one JSON document of ``--json``; a stream that is not UTF-8 gets escapes, so that no character is lost."""
    results().write(json_text(value, ascii_only=not is_utf8(results())))


def is_utf8(stream: TextIO) -> bool:
    """Return True if `stream` writes UTF-8; a pipe on Windows writes the code page of the system."""
    try:
        return codecs.lookup(stream.encoding or "utf-8").name == "utf-8"
    except LookupError:
        return False


def say(console: Console, text: str) -> None:
    """Print `text`, without passwords, wrapped between words on a terminal and on one line in a pipe; a line break is escaped."""
    console.print(_one_line(hide_passwords(text)), soft_wrap=not console.is_terminal)


def excerpt(text: str) -> str:
    """Return `text` without its middle if it is long: a value of a file may have any length, and the way out stands at the end."""
    return text if len(text) <= MAX_ERROR_LENGTH else f"{text[: MAX_ERROR_LENGTH // 2]} … {text[-MAX_ERROR_LENGTH // 4 :]}"


def say_model(target: Target) -> None:
    """Print the model on stderr if cnnkit chose it."""
    if target.chosen:
        say(err(), f"model {target.path} (the newest finished run)")


def say_labelled(console: Console, label: str, text: str, style: str = "bold") -> None:
    """Print `text`, without passwords, in a column after a `label` of `LABEL_WIDTH` cells; in a pipe, print both on one line."""
    _say_after(console, label, _one_line(text), style)


def say_error(message: str) -> None:
    """Print an error on stderr, whose `message` may have several lines."""
    _say_after(err(), "error", excerpt(message), "bold red")


def _say_after(console: Console, label: str, text: str, style: str) -> None:
    text = hide_passwords(text)
    head = Text(label.ljust(LABEL_WIDTH), style=style)
    if not console.is_terminal:
        console.print(head.append(text, style="not bold default"), soft_wrap=True)
        return
    grid = Table.grid(padding=0)
    grid.add_column(width=LABEL_WIDTH)
    grid.add_column(overflow="fold")
    grid.add_row(head, Text(text))
    console.print(grid)


def _one_line(text: str) -> str:
    return text.replace("\n", r"\n")


def say_notes(console: Console, notes: Iterable[str]) -> None:
    """Print each of `notes` after its label."""
    for text in notes:
        say_labelled(console, "note", text, "yellow")


def say_end(console: Console, sentence: str, command: str) -> None:
    """Print the last two lines of a command: a `sentence` that sums up (empty: none), and the `command` to type next."""
    if sentence:
        say(console, sentence)
    say(console, f"next: {command}")


def named(target: Target, flag: str = "") -> str:
    """Return the run or, after a `flag`, the model of `target` for the next command; an empty text if cnnkit chose it."""
    path = target.run.path if target.run else target.path
    return "" if target.chosen or not (flag or target.run) else " ".join(["", *filter(None, [flag]), shell_path(path)])


def say_skipped(console: Console, bad: Sequence[tuple[str, str]], full_list: str) -> None:
    """Print the first unreadable images `bad`, pairs of path and reason; `full_list` names the file or command that lists all."""
    if not bad:
        return
    say_labelled(console, "skipped", f"{counted(len(bad), 'unreadable image')}:", "yellow")
    names = listed((f"{path}: {reason}" for path, reason in bad), MAX_BAD_SHOWN, "\n")
    for line in (names + (f", in {full_list}" if len(bad) > MAX_BAD_SHOWN else "")).split("\n"):
        say_labelled(console, "", line)


class ProgressUpdate:
    """The update of a progress bar, ``update(done, total)`` or `files`; `say` prints a sentence above the bar, also without a terminal."""

    def __init__(self, console: Console, show: Callable[[int, int, str], None]) -> None:
        self._console, self._show = console, show

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` images are done."""
        self._show(done, total, "images")

    def files(self, done: int, total: int) -> None:
        """Show that `done` of `total` files of images are listed."""
        self._show(done, total, "files")

    def say(self, text: str) -> None:
        """Print a note."""
        say_notes(self._console, [text])


@contextmanager
def progress(console: Console, title: str) -> Generator[ProgressUpdate]:
    """Show a progress bar with images/s on a terminal while the body runs; yields ``update(done, total)``."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal or console.is_dumb_terminal) as bar:
        task = bar.add_task(title, total=None, rate="", visible=False)
        shown = "images"

        def update(done: int, total: int, unit: str) -> None:
            nonlocal shown
            if unit != shown:
                bar.reset(task, total=total, completed=done, description=title if unit == "images" else f"listing {unit}")
                shown = unit
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, total=total, visible=True, rate=f"{speed:,.0f} {unit}/s" if speed else "")

        yield ProgressUpdate(console, update)


@contextmanager
def spinner(console: Console, first: str, *, lines: bool = False) -> Generator[Callable[[str], None]]:
    """Show the current step on a terminal while the body runs, at first `first`; yields ``update(text)``.

    In a pipe, each step is a line if `lines`. Redraws are rare, so that they do not disturb a timing.
    """
    from rich.progress import Progress, SpinnerColumn, TextColumn

    quiet = not console.is_terminal or console.is_dumb_terminal
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, disable=quiet, refresh_per_second=2) as bar:
        task = bar.add_task(first, total=None)

        def update(text: str) -> None:
            bar.update(task, description=text)
            if quiet and lines:
                say(console, text)

        yield update


def _console(stream: TextIO) -> Console:
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return EscapingConsole(file=stream, width=width)
