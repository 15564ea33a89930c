"""The notebooks of the documentation: stored without outputs, and every cell works."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(notebook.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def run_cell(source: str, names: dict[str, Any]) -> object:
    """Run a cell and return the value of its last expression, as a notebook shows it; None without one."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)  # noqa: S102 (a page of this repository)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None  # noqa: S307


def test_there_is_a_notebook() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_outputs_are_stripped(notebook: Path) -> None:
    for cell in code_cells(notebook):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.slow
def test_the_cells_of_the_notebook_show_short_results() -> None:
    names: dict[str, Any] = {}
    shown = [run_cell("".join(cell["source"]), names) for cell in code_cells(DOCS / "notebook.ipynb")]
    assert all(len(repr(value)) < 300 for value in shown)
    assert names["evaluation"].report.n == 797
    assert names["evaluation"].report.accuracy.value > 0.5
    assert [value for value in shown if hasattr(value, "_repr_html_")]
    assert names["model"].predict(names["images"][1000]).label == shown[-1].label  # pyright: ignore[reportAttributeAccessIssue]
