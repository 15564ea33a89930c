"""Pages beside the code: files, folders, links and flags that they name exist, and reading lists are as short as they promise."""

from __future__ import annotations

import ast
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from cnnkit.cli.app import build_app
from cnnkit.registry import GROUPS

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = sorted(page for pattern in ("*.md", "docs/**/*.md", "plugins/*/README.md") for page in CHECKOUT.glob(pattern))
OF_THE_HOUSE = [page for page in PAGES if "benchmarks" not in page.parts]  # scripts of docs/benchmarks have flags of their own
CONTRIBUTING = (CHECKOUT / "CONTRIBUTING.md").read_text("utf-8")
LISTS = re.findall(r"^### ([^\n]+): at most ([\d,]+) lines$(.*?)(?=^##)", CONTRIBUTING, re.MULTILINE | re.DOTALL)
ROOMS = sorted(
    path.stem for path in (CHECKOUT / "cnnkit").iterdir() if (path.is_dir() or path.suffix == ".py") and not path.name.startswith("__")
)
TOLERANCE = 0.15  # of a line count on the page, at least `SLACK` lines: a small edit needs no edit of the page
SLACK = 15
OTHER_PROGRAMS = {
    "--max-restarts",
    "--data-binary",
    "--logdir",
    "--torch-backend",
    "--upgrade",
    "--version",
}  # flags of curl, tensorboard, uv and pip, and of the group itself


def lines(file: str) -> int:
    return len((CHECKOUT / file).read_text("utf-8").splitlines())


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


def flags() -> dict[str, set[str]]:
    """Return the flags of every command by its words, such as ``archs show``."""
    group: Any = typer.main.get_command(build_app())
    commands = dict(group.commands)
    for name, command in group.commands.items():
        commands |= {f"{name} {below}": inner for below, inner in getattr(command, "commands", {}).items()}
    return {name: {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)} for name, command in commands.items()}


FLAGS = flags()


@pytest.mark.parametrize(("name", "limit", "text"), LISTS, ids=[name for name, *_ in LISTS])
def test_a_reading_list_is_as_short_as_it_promises(name: str, limit: str, text: str) -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (\d+) \|", text, re.MULTILINE)
    assert rows, name
    for file, stated in rows:
        slack = max(SLACK, TOLERANCE * int(stated))
        assert abs(lines(file) - int(stated)) <= slack, f"CONTRIBUTING.md: {file} has {lines(file)} lines, the list says {stated}"
    total = sum(lines(file) for file, _ in rows)
    assert total <= int(limit.replace(",", "")), f"{name}: {total} lines to read"


def test_there_is_a_reading_list_for_every_common_change() -> None:
    assert [name for name, *_ in LISTS] == ["A command", "A metric", "An augmentation", "A source", "An architecture"]


@pytest.mark.parametrize("room", ROOMS)
def test_both_maps_name_every_room(room: str) -> None:
    table = CONTRIBUTING.partition("## The rooms")[2].partition("\n## ")[0]
    assert f"`{room}`" in table, f"CONTRIBUTING.md, The rooms: {room!r} is missing"
    if (CHECKOUT / "cnnkit" / room).is_dir():
        assert f"`cnnkit/{room}/`" in (CHECKOUT / "README.md").read_text("utf-8"), f"README.md, Map: cnnkit/{room}/ is missing"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith("http"):
            continue
        name, _, part = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{target} leads nowhere"
        if part:
            found = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            assert part in {anchor(heading) for heading in found}, f"{file.name} has no heading #{part}"


@pytest.mark.parametrize("page", OF_THE_HOUSE, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_flags_that_a_page_mentions_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    everywhere = set().union(*FLAGS.values()) | {"--help", "--debug"} | OTHER_PROGRAMS
    mentioned = {flag for code in re.findall(r"`([^`\n]+)`", text) for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", code)}
    assert not mentioned - everywhere, f"no command has {mentioned - everywhere}"


@pytest.mark.parametrize("page", OF_THE_HOUSE, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_python_names_on_a_page_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    names = set(re.findall(r"`(cnnkit(?:\.\w+)+)[`(]", text)) - {*GROUPS}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        found = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
        names |= {f"{node.module}.{alias.name}" for node in found for alias in node.names if str(node.module).partition(".")[0] == "cnnkit"}
        names |= set(re.findall(r"\b(cnnkit\.\w+)\(", block))
    for name in sorted(names):
        pkgutil.resolve_name(name)  # raises ImportError or AttributeError that names what is missing
