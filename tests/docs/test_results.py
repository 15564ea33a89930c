"""RESULTS.md is the page that its documents make, and every document says how to repeat its figures."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
DOCUMENTS = sorted((BENCHMARKS / "results").glob("*.json"))
GOOD: dict[str, Any] = {
    "title": "A speed",
    "claim": "The speed is 3.5 images a second.",
    "command": ["python docs/benchmarks/speed.py"],
    "machine": "2 cores",
    "date": "2026-11-26",
    "seeds": [0, 1],
    "columns": ["data", "images/s"],
    "rows": [["digits", "3.5 ± 0.1"]],
    "notes": ["The machine was quiet."],
}


def results(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "results.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def document(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("document")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one good document and its page."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "training-speed.json").write_text(json.dumps(GOOD), "utf-8")
    assert results("--folder", tmp_path).returncode == 0
    return tmp_path


def test_page_is_made_of_the_documents() -> None:
    done = results("--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_document_names_its_command_and_its_machine(path: Path) -> None:
    content = json.loads(path.read_text("utf-8"))
    assert content["command"], f"{path.name}: command is empty; write 'not recorded' if nobody knows it"
    assert content["machine"], f"{path.name}: machine is empty; write 'not recorded' if nobody knows it"
    for line in content["command"]:
        script = next((word for word in line.split() if word.endswith(".py") and "/" in word), None)
        assert script is None or (BENCHMARKS.parents[1] / script).is_file(), f"{path.name}: there is no {script}"


def test_there_are_documents() -> None:
    assert len(DOCUMENTS) > 20


def test_page_shows_every_field(folder: Path) -> None:
    text = (folder / "RESULTS.md").read_text("utf-8")
    assert "| [A speed](#a-speed) | The speed is 3.5 images a second. |" in text
    assert "## A speed\n\nThe speed is 3.5 images a second.\n\n| data | images/s |\n|---|---|\n| digits | 3.5 ± 0.1 |\n" in text
    assert "- Machine: 2 cores.\n- Date: 2026-11-26. Seeds: 0, 1.\n- The machine was quiet.\n" in text
    assert "$ python docs/benchmarks/speed.py\n" in text


def test_check_tells_a_page_that_is_not_current(folder: Path) -> None:
    assert results("--folder", folder, "--check").returncode == 0
    (folder / "results" / "training-speed.json").write_text(json.dumps({**GOOD, "rows": [["digits", "4.0"]]}), "utf-8")
    done = results("--folder", folder, "--check")
    assert done.returncode == 1
    assert done.stderr == "RESULTS.md is not made of the documents in results/: run python docs/benchmarks/results.py\n"
    assert "4.0" not in (folder / "RESULTS.md").read_text("utf-8")


def test_two_documents_with_one_title_are_refused(folder: Path) -> None:
    shutil.copy(folder / "results" / "training-speed.json", folder / "results" / "data-speed.json")
    done = results("--folder", folder)
    assert done.returncode == 1
    assert "more than one document has the title 'A speed'" in done.stderr


def test_document_of_no_group_is_refused(folder: Path) -> None:
    shutil.copy(folder / "results" / "training-speed.json", folder / "results" / "speed.json")
    assert "speed.json: the name begins with none of the groups training, peers," in results("--folder", folder).stderr


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"machine": ""}, "machine is empty"),
        ({"command": []}, "command names no line to type"),
        ({"command": [" "]}, "command names no line to type"),
        ({"title": "Speed: fast"}, "links to it would break"),
        ({"claim": "The speed is high. It is 3."}, "is not one sentence"),
        ({"date": "yesterday"}, "date 'yesterday' is neither YYYY-MM-DD nor 'not recorded'"),
        ({"rows": [["digits"]]}, "row ['digits'] has 1 cells for 2 columns"),
        ({"rows": [["digits", "3\n4"]]}, "a cell holds a line break"),
        ({"rows": [["digits", 3.50]]}, "cell 3.5 is no text"),
        ({"speed": 3}, "has beyond the form ['speed']"),
    ],
)
def test_damaged_document_is_refused_by_name(document: ModuleType, tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({**GOOD, **change}), "utf-8")
    with pytest.raises(ValueError, match=r"^x\.json: ") as caught:
        document.read(path)
    assert complaint in str(caught.value)


def test_file_that_is_no_json_is_refused_by_name(document: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{", "utf-8")
    with pytest.raises(ValueError, match=r"^x\.json: no JSON: "):
        document.read(tmp_path / "x.json")


def test_script_writes_a_document_of_its_run(
    document: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--seeds", "2", "--json", "x.json", "--", "--data", str(tmp_path / "digits")]
    monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / "main_job.py"), *arguments])
    table = document.Table("data", "accuracy")
    table.add("digits", document.spread([99.0, 100.0], 1))
    document.save(tmp_path / "x.json", "Main job", "It works.", table.columns, table.rows, seeds=range(2), name="table")
    assert capsys.readouterr().out == "| data | accuracy |\n|---|---|\n| digits | 99.5 ± 0.7 |\n"
    found = document.read(tmp_path / "x-table.json")
    assert found.command == ["python docs/benchmarks/main_job.py --seeds 2 -- --data digits"]
    assert found.rows == [["digits", "99.5 ± 0.7"]]
    assert found.seeds == [0, 1]
    assert "Python 3" in found.machine


def test_script_without_the_option_writes_nothing(document: ModuleType, tmp_path: Path) -> None:
    document.save(None, "Main job", "It works.", ["data"], [["digits"]])
    assert not list(tmp_path.iterdir())
