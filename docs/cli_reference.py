"""The CLI reference docs/cli.md, made of the command line itself.

    python docs/cli_reference.py            # writes docs/cli.md
    python docs/cli_reference.py --check    # exits with 1 if docs/cli.md is not the page that the command line makes

The page holds words and flags as they are declared, so the width of a terminal, installed packages and the machine do not change it.
"""

from __future__ import annotations

import argparse
import html
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from cnnkit.cli.app import COMMANDS, build_app
from cnnkit.cli.help import MAX_FLAGS, default, panels, term

PAGE = Path(__file__).with_name("cli.md")
INTRODUCTION = """\
# CLI reference

This page is made by `python docs/cli_reference.py` from the flags that the commands declare. In the terminal the `--help` of a command
shows the same text. `--debug` after any command adds the traceback of an error.
[Exit codes](using.md#exit-codes) tell scripts what happened.
"""
HIDDEN = {"help", "help_all"}  # flags of every command, which the introduction names
SPECIAL = re.compile(r"[\\*_<\[|]")  # characters with a meaning in Markdown
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]")


def page() -> str:
    """Return the whole page: a table of all commands, then a section for each."""
    group: Any = typer.main.get_command(build_app())
    summaries = {name: prose(paragraphs(group.commands[name])[0]) for names in COMMANDS.values() for name in names}
    lines = [INTRODUCTION, "| command | effect |", "|---|---|"]
    lines += [f"| [`{name}`](#cnnkit-{name}) | {summary} |" for name, summary in summaries.items()]
    for title, names in COMMANDS.items():
        lines.append(f"\n## {title}")
        for name in names:
            lines += section(f"cnnkit {name}", group.commands[name])
    return "\n".join(lines) + "\n"


def section(words: str, command: Any) -> Iterator[str]:
    """Yield the lines on one command and on the commands below it."""
    context = typer.Context(command)
    usage = " ".join(each for each in command.collect_usage_pieces(context) if each)
    yield f"\n### `{words}`\n"
    yield f"```text\n{words} {usage}\n```\n"
    for text in paragraphs(command):
        yield f"{text}\n" if text.startswith("```") else f"{prose(text)}\n"
    params = [param for param in command.get_params(context) if param.name not in HIDDEN]
    by_panel = panels(params, named=len(params) + len(HIDDEN) > MAX_FLAGS)
    for title, below in by_panel.items():
        yield from table("argument" if title == "Arguments" else "flag", "" if len(by_panel) == 1 else title, below)
    for name, inner in getattr(command, "commands", {}).items():
        yield from section(f"{words} {name}", inner)


def paragraphs(command: Any) -> list[str]:
    r"""Return the paragraphs of the description; the examples, which follow ``\b``, become a block of code."""
    found: list[str] = []
    for text in (command.help or "").strip().split("\n\n"):
        if text.startswith("\b"):
            examples = "\n".join(f"$ {comment(line.strip())}" for line in text.splitlines()[1:])
            found.append(f"```console\n{examples}\n```")
        else:
            found.append(" ".join(text.split()))
    return found


def comment(example: str) -> str:
    """Return an example whose explanation, after three spaces, has become a comment of the shell."""
    return re.sub(r"(\S)   +(\S)", r"\1   # \2", example, count=1)


def table(kind: str, title: str, params: Sequence[Any]) -> Iterator[str]:
    """Yield a table of flags or arguments; the default has a column if one of them has a default."""
    defaults = any(default(param) for param in params)
    if title:
        yield f"**{title}**\n"
    yield f"| {kind} | meaning |{' default |' if defaults else ''}"
    yield f"|---|---|{'---|' if defaults else ''}"
    for param in params:
        shown = f" {code(default(param))} |" if defaults else ""
        yield f"| {code(term(param).strip())} | {prose(param.help or '')} |{shown}"
    yield ""


def code(text: str) -> str:
    """Return `text` as code in a cell of a table; a bar in backticks would end the cell or show its escape."""
    if "|" in text:
        return f"<code>{html.escape(text).replace('|', '&#124;')}</code>"
    return f"`{text}`" if text else ""


def prose(text: str) -> str:
    """Return `text` for Markdown: special characters escaped, and flags as code, except in what is code already."""
    parts = re.split(r"(`[^`]*`)", text)
    plain = [part if part.startswith("`") else FLAG.sub(r"`\g<0>`", SPECIAL.sub(r"\\\g<0>", part)) for part in parts]
    return "".join(plain)


def main() -> int:
    """Write the page, or check it; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is not current")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page (default: docs/cli.md)")
    given = parser.parse_args()
    text = page()
    if not given.check:
        given.page.write_text(text, "utf-8")
    elif not given.page.is_file() or given.page.read_text("utf-8") != text:
        sys.exit(f"{given.page.name} is not made of the command line of today: run python docs/cli_reference.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
