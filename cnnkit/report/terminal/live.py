"""The progress of a training: one line per epoch, and on a terminal a bar for the current epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from cnnkit.report.terminal.console import EscapingConsole

if TYPE_CHECKING:  # only types, because this package imports no torch
    from cnnkit.engine.batch_source import BatchSource
    from cnnkit.engine.fit import EpochResult

# heading and width of each column; numbers are right-aligned
_COLUMNS = (
    ("epoch", 7), ("lr", 8), ("train loss", 10), ("train acc", 9), ("val loss", 9), ("val acc", 8), ("images/s", 9), ("time", 6),
)  # fmt: skip
_NOT_EVALUATED = "-"  # a time budget may leave no room for an evaluation


class EpochTable:
    """A context manager around a training that prints a line when an epoch ends.

    A pipe or a dumb terminal gets the same lines without the bar and without colour. The star marks the best epoch so far. `epochs` is
    None if a time budget decides the number of epochs.
    """

    def __init__(self, console: Console, epochs: int | None, *, images: int) -> None:
        self._console, self._images = console, images
        self._of = f"/{epochs}" if epochs else ""
        self._started = time.perf_counter()
        self._star = "★" if (console.encoding or "").lower().startswith("utf") else "*"
        columns = (
            TextColumn("epoch {task.fields[number]}"), BarColumn(None), TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(compact=True),
        )  # fmt: skip
        self._bar = Progress(*columns, console=console, transient=True, expand=True, disable=not _can_move(console))

    def __enter__(self) -> Self:
        self._console.print(Text("  ".join(name.rjust(width) for name, width in _COLUMNS), style="bold"))
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def watch(self, batches: BatchSource) -> BatchSource:
        """Return `batches` as a source that moves the bar."""
        return _Watched(batches, self)

    def add(self, epoch: EpochResult) -> None:
        """Print the line of a finished epoch."""
        minutes, seconds = divmod(round(time.perf_counter() - self._started), 60)
        cells = (
            f"{epoch.epoch}{self._of}", f"{epoch.lr:.2e}", f"{epoch.train_loss:.4f}", f"{100 * epoch.train_accuracy:.1f} %",
            _NOT_EVALUATED if epoch.val_loss is None else f"{epoch.val_loss:.4f}",
            _NOT_EVALUATED if epoch.val_accuracy is None else f"{100 * epoch.val_accuracy:.1f} %",
            f"{epoch.images_per_second:,.0f}", f"{minutes}:{seconds:02d}",
        )  # fmt: skip
        line = Text()
        for (name, width), cell in zip(_COLUMNS, cells, strict=True):
            line.append(cell.rjust(width) + "  ", style="green" if epoch.is_best and name.startswith("val") else "")
        self._console.print(line.append(self._star if epoch.is_best else "", style="bold yellow"))

    def follow(self, number: int, batches: BatchSource, first: int = 0) -> Iterator[Any]:
        """Yield the batches of epoch `number` from the index `first` and move the bar."""
        steps = batches.steps
        task = self._bar.add_task("", total=steps, completed=first, number=f"{number}{self._of}", rate="")
        try:
            for batch in batches.epoch(number, first):
                yield batch
                speed = self._bar.tasks[-1].speed if self._bar.tasks else None
                rate = f"{speed * self._images / steps:,.0f} images/s" if speed else ""
                self._bar.update(task, advance=1, rate=rate)
        finally:
            self._bar.remove_task(task)


def stdout_console() -> Console:
    """Return the console of stdout; in a pipe or file it is wide enough for the table."""
    console = EscapingConsole()
    if not console.is_terminal:
        console.width = max(console.width, sum(width + 2 for _, width in _COLUMNS) + 1)
    return console


def is_shown(show: bool | None) -> bool:  # noqa: FBT001 - the value of a keyword
    """Return `show`; if it is None, True in a notebook, where rich shows its tables as HTML."""
    return Console().is_jupyter if show is None else show


def _can_move(console: Console) -> bool:
    """Return True if a bar can move: on a terminal that is not dumb, and in a notebook with ipywidgets, which rich needs for it."""
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None
    return console.is_terminal and not console.is_dumb_terminal


@dataclass(frozen=True)
class _Watched:
    batches: BatchSource
    table: EpochTable

    @property
    def steps(self) -> int:
        return self.batches.steps

    def epoch(self, number: int, first: int = 0) -> Iterator[Any]:
        return self.table.follow(number, self.batches, first)
