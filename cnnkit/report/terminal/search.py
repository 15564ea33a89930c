"""The progress of a search: a live table of its trials on a terminal, a line for each ended trial in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cnnkit.report.terminal.console import escaped

if TYPE_CHECKING:
    from cnnkit.tuning.trials import SearchNews, StoredTrial

MAX_ROWS = 12  # of the live table: the latest trials
REFRESH_SECONDS = 0.25
_STYLES = {"complete": "", "pruned": "dim", "failed": "red", "running": "yellow", "waiting": "yellow"}


class SearchTable:
    """A context manager around a search that shows its news.

    `names` are the searched names, `metric` is the monitored metric, and `total` the number of trials.
    """

    def __init__(self, console: Console, names: Iterable[str], *, metric: str, total: int) -> None:
        self._console, self._names, self._metric, self._total = console, tuple(names), metric, total
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, transient=True, auto_refresh=False)
        self._epochs: dict[int, str] = {}
        self._drawn = 0.0

    def __enter__(self) -> Self:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._is_live:
            self._live.stop()

    def show(self, news: SearchNews) -> None:
        """Show a step of the search."""
        if news.epoch is not None and news.number is not None:
            self._epochs[news.number] = f"{news.epoch}/{news.epochs}" if news.epochs else str(news.epoch)
        if news.note:
            self._console.print(Text(f"note    {escaped(news.note)}", style="yellow"))
        if self._is_live:
            self._draw(news)
        if news.trial is not None and news.event in {"ended", "resumed", "requeued"}:
            self._console.print(Text(escaped(self._line(news)), style=_STYLES[news.trial.state]), soft_wrap=True)

    def _draw(self, news: SearchNews) -> None:
        if news.event in {"epoch", "waiting"} and time.monotonic() - self._drawn < REFRESH_SECONDS:
            return
        self._drawn = time.monotonic()
        self._live.update(
            Group(trial_table(news.trials[-MAX_ROWS:], self._names, self._metric, self._epochs), self._sum(news)), refresh=True
        )

    def _line(self, news: SearchNews) -> str:
        trial = news.trial
        assert trial is not None  # noqa: S101 (the caller checked it)
        head = f"trial   {trial.number}/{max(self._total, len(news.trials))}"
        if news.event == "resumed":
            return f"{head}  continued after epoch {trial.epoch}  {trial.run}"
        if news.event == "requeued":
            return f"{head}  its worker has ended; the trial waits and will be continued"
        words = [head, trial.state, *([] if trial.value is None else [f"{self._metric} {trial.value:.4f}"])]
        if trial.state == "pruned":
            words.append(f"after epoch {trial.epoch}")
        words += [trial.reason] if trial.reason else []
        words += [params_text(trial.params)]
        if news.best is trial:
            words.append("(best)")
        return "  ".join(words)

    def _sum(self, news: SearchNews) -> Text:
        best = news.best
        found = "no complete trial yet" if best is None else f"best: trial {best.number}, {self._metric} {best.value:.4f}"
        ended = sum(trial.has_ended for trial in news.trials)
        waits = "; waiting for the trials of other workers" if news.event == "waiting" else ""
        return Text(f"{ended} of {self._total} trials ended; {found}{waits}", style="bold")


def trial_table(trials: Sequence[StoredTrial], names: Sequence[str], metric: str, epochs: Mapping[int, str] | None = None) -> Table:
    """Return the table of `trials` with a column for each searched name; `epochs` has texts such as ``3/5`` by number."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for head in trial_heads(names, metric):
        table.add_column(head, justify="left" if head == "state" else "right", no_wrap=True)
    for trial in trials:
        table.add_row(*map(escaped, trial_cells(trial, names, (epochs or {}).get(trial.number))), style=_STYLES[trial.state])
    return table


def trial_heads(names: Sequence[str], metric: str) -> tuple[str, ...]:
    """Return the heads of the columns of `trial_cells`."""
    return ("trial", "state", "epoch", metric, *names)


def trial_cells(trial: StoredTrial, names: Sequence[str], epoch: str | None = None) -> list[str]:
    """Return number, state, epoch, value and parameters of a trial as texts; `epoch` replaces the latest one."""
    value = trial.value if trial.value is not None else trial.values.get(trial.epoch)
    return [
        str(trial.number),
        trial.state,
        str(trial.epoch or "") if epoch is None else epoch,
        "" if value is None else f"{value:.4f}",
        *(param_text(trial.params[name]) if name in trial.params else "" for name in names),
    ]


def param_text(value: object) -> str:
    """Return the value of a parameter with three digits: ``0.00123``."""
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def params_text(params: Mapping[str, object]) -> str:
    """Return parameters in one line: ``lr=0.00123 width=64``."""
    return " ".join(f"{name}={param_text(value)}" for name, value in params.items())
