from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from cnnkit.report.terminal.live import EpochTable

FIGURES = {"lr": 1e-3, "train_loss": 1.25, "train_accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.625, "images_per_second": 1234.5}


class Batches:
    steps = 3

    def epoch(self, number: int, first: int = 0) -> Iterator[Any]:
        yield from range(self.steps * number + first, self.steps * (number + 1))


def epoch(number: int, *, is_best: bool) -> Any:
    return SimpleNamespace(epoch=number, is_best=is_best, **FIGURES)


def show(*, terminal: bool, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=100, force_terminal=terminal, color_system="standard" if terminal else None)
    with EpochTable(console, 12, images=300) as table:
        watched = table.watch(Batches())
        assert watched.steps == 3
        assert list(watched.epoch(2)) == [6, 7, 8]
        table.add(epoch(1, is_best=True))
        table.add(epoch(2, is_best=False))
    file.seek(0)
    return file.read()


def test_a_pipe_gets_a_heading_and_one_plain_line_per_epoch():
    assert show(terminal=False).splitlines() == [
        "  epoch        lr  train loss  train acc   val loss   val acc   images/s    time",
        "   1/12  1.00e-03      1.2500     50.0 %     1.0000    62.5 %      1,234    0:00  ★",
        "   2/12  1.00e-03      1.2500     50.0 %     1.0000    62.5 %      1,234    0:00  ",
    ]


def test_an_epoch_without_evaluation_has_dashes():
    file = io.StringIO()
    with EpochTable(Console(file=file, width=100), None, images=300) as table:
        unevaluated: Any = SimpleNamespace(epoch=3, is_best=False, **FIGURES | {"val_loss": None, "val_accuracy": None})
        table.add(unevaluated)
    assert file.getvalue().splitlines()[1].split() == ["3", "1.00e-03", "1.2500", "50.0", "%", "-", "-", "1,234", "0:00"]


def test_an_ascii_pipe_marks_the_best_epoch():
    assert show(terminal=False, encoding="ascii").splitlines()[1].endswith("*")


def test_a_terminal_gets_colour_and_every_line(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR")
    shown = show(terminal=True)
    assert "\x1b[" in shown
    assert "1/12" in shown
    assert "2/12" in shown
