from __future__ import annotations

import io

import pytest
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from cnnkit.report.terminal.console import EscapingConsole, escaped

HOSTILE = "x\x1b]0;title\x07\x1b[31m\u202edekcah\x9b2J"
CONTROLS = {"\x1b", "\x07", "\u202e", "\x9b", "\r"}


def written(*parts: object, terminal: bool = False) -> str:
    file = io.StringIO()
    console = EscapingConsole(file=file, width=100, force_terminal=terminal, color_system=None)
    console.print(*parts)
    return file.getvalue()


def table(cell: str | Text) -> Table:
    found = Table("name", "count")
    found.add_row(cell, "3")
    return found


@pytest.mark.parametrize("part", [HOSTILE, Text(HOSTILE), Text("a").append(HOSTILE, style="bold"), table(HOSTILE), table(Text(HOSTILE))])
@pytest.mark.parametrize("terminal", [True, False])
def test_no_control_character_of_a_name_is_written(part, terminal):
    text = written(part, terminal=terminal)
    assert not CONTROLS & set(text)
    assert "\\x1b]0;title" in text


def test_a_table_measures_the_escaped_name():
    lines = written(table(HOSTILE)).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "\\u202edekcah" in "".join(lines)


def test_brackets_and_colons_are_text():
    assert written("[red]x[/red] :smile: [default: 5]") == "[red]x[/red] :smile: [default: 5]\n"


def test_lines_stay_lines_and_undecodable_bytes_are_shown():
    assert written("first\nsecond \udcff") == "first\nsecond \\udcff\n"


def test_a_progress_bar_still_moves_the_cursor():
    file = io.StringIO()
    console = EscapingConsole(file=file, width=80, force_terminal=True, _environ={"TERM": "xterm"})
    with Progress(console=console) as bar:
        bar.update(bar.add_task(f"reading {HOSTILE}", total=2), advance=1)
    assert "\x1b[2K" in file.getvalue() or "\x1b[?25l" in file.getvalue()
    assert "\x07" not in file.getvalue()


def test_escaped_keeps_printable_text():
    assert escaped("Ärger 中文 ❤ €") == "Ärger 中文 ❤ €"
    assert escaped("a\nb") == "a\\nb"
