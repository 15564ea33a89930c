"""The language rules of the house, as far as a machine can hold them: words, sentence lengths, module docstrings."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import typer

import cnnkit
from cnnkit.cli.app import build_app

PACKAGE = Path(cnnkit.__file__).parent
CHECKOUT = Path(__file__).resolve().parent.parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
PAGES = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md"), *CHECKOUT.glob("plugins/*/README.md")])
HISTORY = {"CHANGELOG.md", "LOG.md"}  # they tell what was, in the words of their day

MAX_WORDS = 35  # in a sentence of docs and help
QUESTION = re.compile(r"(What|How|Which|Whether|Where|Who|When|Why)\b")
# One word per thing (contract.md): the word on the left has a field's word instead.
FORBIDDEN = {
    r"sides?": "split, edge, direction",
    r"answer(s|ed|ing)?": "prediction, predict",
    r"chances?": "probability",
    r"strangers?": "out-of-distribution, third-party",
    r"kin": "cluster",
    r"rings?": "alerts",
    r"circles?": "reference cycle",
    r"places?": "index, row, position, cell, cache",
    r"so many": "N, at least",
    r"(that|those) which": "a noun",
    r"one who": "a noun",
}
WORDS = re.compile(rf"\b({'|'.join(FORBIDDEN)})\b", re.IGNORECASE)


def prose(text: str) -> list[str]:
    """Return the sentences of a Markdown page, without code, tables, headings and links' targets."""
    text = re.sub(r"```.*?```", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"^\s*(\||#|<).*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    blocks = re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.)\s", text, flags=re.MULTILINE)
    return [sentence for block in blocks for sentence in re.split(r"(?<=[.!?:;])\s+", " ".join(block.split())) if sentence]


def help_texts() -> dict[str, str]:
    """Return the description of every command and the help of every flag, by the words that show it."""
    group: Any = typer.main.get_command(build_app())
    found = {}
    commands = dict(group.commands)
    for name, command in group.commands.items():
        commands |= {f"{name} {below}": inner for below, inner in getattr(command, "commands", {}).items()}
    for name, command in commands.items():
        paragraphs = [each for each in (command.help or "").split("\n\n") if not each.startswith("\b")]  # examples stand after \b
        found[name] = " ".join(" ".join(paragraphs).split())
        found |= {f"{name} {param.name}": getattr(param, "help", "") or "" for param in command.params}
    return found


def complaints(sentences: list[str]) -> list[str]:
    found = [f"{len(sentence.split())} words: {sentence[:120]}" for sentence in sentences if len(sentence.split()) > MAX_WORDS]
    found += [f"{word[0]!r}: {sentence[:120]}" for sentence in sentences if (word := WORDS.search(sentence))]
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.as_posix())
def test_a_module_is_a_noun_phrase(module: Path) -> None:
    doc = ast.get_docstring(ast.parse((PACKAGE / module).read_text("utf-8")))
    assert doc, f"{module}: no docstring"
    assert not QUESTION.match(doc), f"{module}: {doc.splitlines()[0]}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in HISTORY], ids=lambda path: path.relative_to(CHECKOUT).as_posix()
)
def test_pages_read_at_once(page: Path) -> None:
    found = complaints(prose(page.read_text("utf-8")))
    assert not found, "\n".join(found)


def test_help_reads_at_once() -> None:
    found = [f"{name}: {text}" for name, help_text in help_texts().items() for text in complaints(re.split(r"(?<=[.!?:])\s+", help_text))]
    assert not found, "\n".join(found)


def test_the_check_sees_what_it_forbids() -> None:
    long = " ".join(["word"] * (MAX_WORDS + 1))
    assert complaints([long]) == [f"36 words: {long[:120]}"]
    assert complaints(["The model answers at once."])[0].startswith("'answers'")
    assert complaints(["Training considers 3 images."]) == []
    assert prose("# Title\n\nOne. Two `a side`!\n```\nthe side\n```\n- item one\n- item two") == [
        "One.",
        "Two code!",
        "item one",
        "item two",
    ]
