from __future__ import annotations

import io
from typing import Any

import pytest

from cnnkit.report.terminal.console import EscapingConsole
from cnnkit.report.terminal.search import MAX_ROWS, SearchTable, param_text, trial_table
from cnnkit.tuning.trials import SearchNews, StoredTrial


def trial(number: int, state: Any = "complete", value: float | None = 0.5, **fields: Any):
    return StoredTrial(number, state, value=value, params={"lr": 0.00123456, "norm": "batch"}, **fields)


def news(event: Any, trials: list[StoredTrial], number: int | None = None, **fields: Any) -> SearchNews:
    return SearchNews(event, tuple(trials), number, **fields)


@pytest.fixture
def shown():
    """Return a function that shows news and returns the printed text; on a terminal if `terminal`."""

    def show(*steps, terminal=False):
        stream = io.StringIO()
        console = EscapingConsole(
            file=stream, width=120, force_terminal=terminal, force_interactive=terminal, color_system=None, legacy_windows=False
        )
        console._environ = {"TERM": "xterm"} if terminal else {}
        with SearchTable(console, ["lr", "norm"], metric="val_loss", total=3) as table:
            for step in steps:
                table.show(step)
        return stream.getvalue()

    return show


def test_a_pipe_gets_a_line_for_each_ended_trial(shown):
    trials = [trial(1), trial(2, "pruned", 0.9, values={1: 0.9}), trial(3, "failed", None, reason="the loss became nan")]
    text = shown(*(news("ended", trials[:number], number) for number in (1, 2, 3)))
    assert text.splitlines() == [
        "trial   1/3  complete  val_loss 0.5000  lr=0.00123 norm=batch  (best)",
        "trial   2/3  pruned  val_loss 0.9000  after epoch 1  lr=0.00123 norm=batch",
        "trial   3/3  failed  the loss became nan  lr=0.00123 norm=batch",
    ]


def test_the_best_trial_is_marked_in_the_direction_of_the_metric(shown):
    trials = [trial(1, value=0.5), trial(2, value=0.9)]
    assert "(best)" in shown(news("ended", trials, 2, maximize=True))
    assert "(best)" not in shown(news("ended", trials, 2))


def test_a_continued_trial_and_a_dead_worker_are_told(shown):
    running = trial(1, "running", None, values={2: 0.5}, run="runs/001-custom-cnn")
    text = shown(news("requeued", [running], 1), news("resumed", [running], 1, note="trial 1 starts again\x1b[31m"))
    assert "trial   1/3  its worker has ended; the trial waits and will be continued" in text
    assert "trial   1/3  continued after epoch 2  runs/001-custom-cnn" in text
    assert "note    trial 1 starts again\\x1b[31m" in text


def test_a_terminal_gets_a_live_table_with_the_epochs(shown):
    trials = [trial(1), trial(2, "running", None, values={1: 0.7})]
    text = shown(news("epoch", trials, 2, epoch=1, epochs=5), terminal=True)
    for expected in ("1/5", "0.7000", "1 of 3 trials ended; best: trial 1, val_loss 0.5000"):
        assert expected in text
    waiting = shown(news("waiting", trials), terminal=True)
    assert "waiting for the trials of other workers" in waiting


def test_the_live_table_has_the_latest_trials(shown):
    trials = [trial(number) for number in range(1, MAX_ROWS + 4)]
    text = shown(news("begun", trials, len(trials)), terminal=True)
    rows = {line.split()[0] for line in text.splitlines() if " complete " in line}
    assert rows == {str(number) for number in range(4, MAX_ROWS + 4)}


def test_a_trial_without_an_option_has_an_empty_cell():
    table = trial_table([StoredTrial(1, "waiting", params={"lr": 0.1})], ["lr", "width"], "val_loss")
    assert list(table.columns[-1].cells) == [""]


@pytest.mark.parametrize(("value", "text"), [(0.00123456, "0.00123"), (64, "64"), (True, "true"), ("strong", "strong")])
def test_parameters_are_short(value, text):
    assert param_text(value) == text
