from __future__ import annotations

import pytest
from rich.cells import cell_len

from cnnkit.report.terminal.console import escaped
from cnnkit.report.terminal.names import fit, short_heads


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ant", "ant"),
        ("[red]", "[red]"),
        ("猫", "猫"),
        ("a\nb", r"a\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\udcff", r"\udcff"),
        ("a\u202eb", r"a\u202eb"),
    ],
)
def test_escaped_names_have_no_control_characters(name: str, shown: str) -> None:
    assert escaped(name) == shown
    escaped(name).encode()


@pytest.mark.parametrize("name", ["", "ant", "exactly8", "longer than eight", "猫猫猫猫猫", "a猫猫猫猫"])
def test_fit_fills_the_width_in_cells(name: str) -> None:
    assert cell_len(fit(name, 8)) == 8


def test_fit_marks_a_cut() -> None:
    assert fit("automobile", 5) == "auto…"


@pytest.mark.parametrize(
    ("names", "width", "heads"),
    [
        (["1", "10"], 2, ["1", "10"]),
        (["airplane", "automobile"], 4, ["airp", "auto"]),
        (["class_1", "class_2"], 5, None),
        (["ant", "bee"], 2, None),
        (["猫猫猫", "犬"], 4, ["猫猫", "犬"]),
    ],
)
def test_heads_stay_distinct(names: list[str], width: int, heads: list[str] | None) -> None:
    assert short_heads(names, width) == heads
