from __future__ import annotations

import io

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from cnnkit.metrics.counts import Counts
from cnnkit.report.terminal.confusion import confusion_table

CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def shown(table: Counts, classes: list[str], width: int, colours: str | None = None, **options: int | str) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=colours, force_terminal=bool(colours), no_color=False)  # type: ignore[arg-type]
    console.print(confusion_table(table, classes, **options))  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain(table: Counts, classes: list[str], width: int = 80) -> str:
    text = shown(table, classes, width)
    assert "\x1b" not in text
    return "\n".join(line.rstrip() for line in text.splitlines())


def test_the_matrix_in_a_pipe() -> None:
    assert (
        plain(np.array([[18, 2, 0], [1, 9, 0], [0, 0, 0]]), ["ant", "[red]bee", "猫"])
        == """\
          predicted →
true ↓         ant [red]bee       猫 total recall %
───────────────────────────────────────────────────
ant             18        2        ·    20     90.0
[red]bee         1        9        ·    10     90.0
猫               ·        ·        ·     0        -"""
    )


def test_ten_classes_fit_80_columns_with_full_names_in_the_rows() -> None:
    text = plain(np.full((10, 10), 1000), CIFAR)
    lines = text.splitlines()
    assert lines[1].split() == [
        "true",
        "↓",
        "airp",
        "auto",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "hors",
        "ship",
        "truc",
        "total",
        "recall",
        "%",
    ]
    assert [line.split()[0] for line in lines[3:]] == CIFAR
    assert max(map(cell_len, lines)) <= 80


def test_a_wide_console_shows_whole_names_as_heads() -> None:
    assert plain(np.eye(10, dtype=np.int64), CIFAR, width=200).splitlines()[1].split()[2:4] == ["airplane", "automobile"]


def test_names_with_equal_starts_are_numbered() -> None:
    lines = plain(np.eye(11, dtype=np.int64), [f"class_{i:03d}" for i in range(11)]).splitlines()
    assert lines[1].split() == ["true", "↓", *map(str, range(11)), "total", "recall", "%"]
    assert lines[3].startswith(" 0 class_000")
    assert lines[13].startswith("10 class_010")


def test_numeric_names_are_not_numbered() -> None:
    lines = plain(np.eye(3, dtype=np.int64), ["1", "2", "10"]).splitlines()
    assert lines[1].split() == ["true", "↓", "1", "2", "10", "total", "recall", "%"]
    assert [line.split()[0] for line in lines[3:]] == ["1", "2", "10"]


@pytest.mark.parametrize(("classes", "width"), [(31, 500), (20, 60)])
def test_a_matrix_that_does_not_fit_becomes_the_most_confused_pairs(classes: int, width: int) -> None:
    table = np.eye(classes, dtype=np.int64) * 1000
    table[3, 4] = 12
    lines = plain(table, [f"class_{i}" for i in range(classes)], width).splitlines()
    assert lines[0] == "Most confused classes"
    assert lines[3].split() == ["class_3", "class_4", "12", "1.2", "%"]
    assert " ".join(lines[4:]) == f"The whole matrix, {classes} × {classes}, is in confusion.csv and confusion.png."


def test_the_limit_of_classes_is_a_parameter() -> None:
    assert shown(np.eye(4, dtype=np.int64), list("abcd"), 80, limit=3).startswith("Most confused")


@pytest.mark.parametrize("width", range(20, 130, 5))
def test_no_line_is_wider_than_the_console(width: int) -> None:
    names = ["a long name of a class " * 3, "猫" * 30, "[bold]x", "y"]
    for line in plain(np.full((4, 4), 123456), names, width).splitlines():
        assert cell_len(line) <= width


def test_frequent_mistakes_are_red_and_rare_mistakes_plain() -> None:
    text = shown(np.array([[50, 50], [1, 99]]), ["ant", "bee"], 80, "truecolor")
    assert "48;2;196;32;32m  50" in text, "half of the ants: full red"
    assert "48;2;16;127;24m  99" in text, "nearly all bees: nearly full green"
    assert "bee       1" in text, "one bee in a hundred: no colour"


def test_a_console_of_sixteen_colours_gets_named_colours() -> None:
    text = shown(np.array([[50, 50], [1, 99]]), ["ant", "bee"], 80, "standard")
    assert text.count("\x1b[37;42m") == 2
    assert text.count("\x1b[37;41m") == 1


def test_the_matrix_obeys_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="truecolor")
    console.print(confusion_table(np.array([[50, 50], [1, 99]]), ["ant", "bee"]))
    assert isinstance(console.file, io.StringIO)
    assert "[38;" not in console.file.getvalue()
    assert "[48;" not in console.file.getvalue()
    assert ";48;" not in console.file.getvalue()


def test_normalized_cells_are_percent_of_a_named_whole() -> None:
    table = np.array([[18, 2], [1, 3999]])
    lines = [line.rstrip() for line in shown(table, ["ant", "bee"], 80, normalize="true").splitlines()]
    assert lines[0].strip() == "predicted → (cells: % of the true class)"
    assert lines[3].split() == ["ant", "90.0", "10.0", "20", "90.0"]
    assert lines[4].split() == ["bee", "<0.1", "100.0", "4000", "100.0"]
    assert "% of the predicted class" in shown(table, ["ant", "bee"], 80, normalize="pred")
    assert "% of all images" in shown(table, ["ant", "bee"], 80, normalize="all")


def test_a_narrow_console_gets_percent_without_decimals() -> None:
    table = np.full((10, 10), 2) + 98_000 * np.eye(10, dtype=np.int64)
    lines = shown(table, CIFAR, 80, normalize="true").splitlines()
    assert lines[3].split() == ["airplane", "100", *["<1"] * 9, "98020", "100.0"]
    assert max(map(cell_len, lines)) <= 80
