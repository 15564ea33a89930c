from __future__ import annotations

import re
from typing import Any

import pytest
import typer

from cnnkit.cli.app import COMMANDS, build_app
from cnnkit.cli.help import MAX_FLAGS

WORDS = re.compile(r"--[a-z][a-z-]*")


def commands() -> dict[str, Any]:
    """Return every command, with its subcommands, by the words that call it."""
    group: Any = typer.main.get_command(build_app())
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        found[name] = command
        found |= {f"{name} {below}": inner for below, inner in getattr(command, "commands", {}).items()}
    return found


NAMES = [name for names in COMMANDS.values() for name in names]
EVERY = sorted(commands())


def page(cli: Any, monkeypatch: pytest.MonkeyPatch, words: str, flag: str = "--help", width: int = 80) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    result = cli(*words.split(), flag)
    assert (result.code, result.err) == (0, "")
    return result.out


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("words", EVERY)
def test_no_line_is_wider_than_the_terminal(cli, monkeypatch, words, width):
    text = page(cli, monkeypatch, words, width=width)
    examples = [line for line in text.splitlines() if line.startswith("  cnnkit")]
    assert max(len(line) for line in text.splitlines() if line not in examples) <= width


@pytest.mark.parametrize("words", EVERY)
def test_defaults_read_as_they_are_typed(cli, monkeypatch, words):
    text = page(cli, monkeypatch, words, width=120)
    assert not re.search(r"default: \(|\(none\)|\(false\)|\{|\u00a0|\u2011", text)


@pytest.mark.parametrize("words", EVERY)
def test_every_help_has_an_example(cli, monkeypatch, words):
    examples = [line for line in page(cli, monkeypatch, words).splitlines() if line.startswith("  cnnkit ")]
    assert examples
    assert max(map(len, examples)) <= 80
    assert any(line.startswith(f"  cnnkit {words.removesuffix(' list')}") for line in examples)


@pytest.mark.parametrize("words", EVERY)
def test_every_flag_has_a_help_and_a_metavar(words):
    for param in commands()[words].params:
        if param.name != "help" and param.param_type_name == "option":
            assert param.help, param.name
            assert param.help.rstrip()[-1] in ".):", param.help
            assert getattr(param, "is_flag", False) or param.metavar, f"{param.name} has no metavar"


def test_the_first_page_lists_every_command_in_its_panel(cli, monkeypatch):
    text = page(cli, monkeypatch, "")
    for panel, names in COMMANDS.items():
        assert f"\n{panel}:\n" in text
        for name in names:
            assert len(re.findall(rf"^  {name} ", text, re.MULTILINE)) == 1


def test_every_command_is_in_a_panel(cli, monkeypatch):
    assert sorted(NAMES) == sorted(name for name in EVERY if " " not in name)


def test_a_long_command_shows_only_the_common_flags(cli, monkeypatch):
    short, whole = page(cli, monkeypatch, "train"), page(cli, monkeypatch, "train", "--help-all")
    assert len(short.splitlines()) < 80
    shown, all_flags = set(WORDS.findall(short)), set(WORDS.findall(whole))
    assert {"--data", "--arch", "--epochs", "--budget", "--lr", "--out", "--dry-run"} <= shown < all_flags
    assert "--clip-grad" not in shown
    assert re.search(r"\d+ more flags: cnnkit train --help-all", short)


@pytest.mark.parametrize("words", EVERY)
def test_a_short_command_has_no_second_page(cli, words):
    params = commands()[words].params
    has_second = any(param.name == "help_all" for param in params)
    assert has_second == (len(params) > MAX_FLAGS)


def test_the_panels_are_aligned(cli, monkeypatch):
    lines = page(cli, monkeypatch, "train", "--help-all").splitlines()
    columns = {match.end() for line in lines if (match := re.match(r"^  (?:-\w, |    )--\S+(?: \S+)?  +(?=\S)", line))}
    assert len(columns) == 1


def test_the_lines_of_a_paragraph_are_joined(cli, monkeypatch):
    text = page(cli, monkeypatch, "split", width=120)
    assert "and copies and groups stay together. Images added later" in text


def test_a_usage_error_names_the_help(cli):
    result = cli("eval", "--modle", "x")
    assert result.code == 2
    assert "No such option: --modle" in result.err
    assert "cnnkit eval --help" in result.err
    assert result.out == ""


@pytest.mark.parametrize("words", EVERY)
def test_an_empty_value_of_a_flag_is_refused(cli, words):
    taking = [max(param.opts, key=len) for param in commands()[words].params if param.param_type_name == "option" and not param.is_flag]
    for flag in taking:
        result = cli(*words.split(), flag, "")
        assert (result.code, result.out) == (2, "")
        assert result.err == f"error   {flag} '': the value is empty; give one, or leave out {flag}\n"
