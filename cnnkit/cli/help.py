"""The help pages of the commands: plain text in panels that fits any terminal, and a short page of the common flags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from cnnkit.cli.streams import results_alone
from cnnkit.errors import ConfigError
from cnnkit.registry import blame

MAX_FLAGS = 24  # --help of a command with more flags shows the common flags; --help-all shows all flags
MAX_WIDTH = 120  # cells of a line; longer lines are hard to read
TERM_SHARE = 0.4  # the share of the width for the flags; the help of a wider flag starts on the next line
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": MAX_WIDTH}
OPTIONS = "Options"
UNBROKEN = {" ": "\u00a0", "-": "\u2011"}  # by character, its form that does not end a line; `_restore` changes it back

Row = tuple[str, str]


class HelpCommand(TyperCommand):
    """A command whose help lists its flags; the help of a long command lists the `common_flags` of its function in panels.

    A function may have `more_panels`, which returns further panels of rows, such as the installed exporters.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the typed words; raises `ConfigError` for an empty value of a flag, which is mostly an unset variable of the shell."""
        given: dict[str, Any] = self.make_parser(ctx).parse_args(args=list(args))[0]
        for param in self.get_params(ctx):
            value = given.get(param.name or "")
            if param.param_type_name == "option" and (value == "" or (isinstance(value, list) and "" in value)):
                flag = max(param.opts, key=len)
                raise ConfigError(f"{flag} '': the value is empty; give one, or leave out {flag}")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; prints of other packages go to stderr, and their errors name them."""
        with results_alone(), blame():
            return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words after the command's name in the usage line."""
        return [self.options_metavar or "", *(term(param) for param in self.get_params(ctx) if param.param_type_name == "argument")]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, description and flags."""
        self._write(ctx, formatter, every=False)

    def help_all(self, ctx: Any) -> str:
        """Return the help with every flag."""
        formatter = ctx.make_formatter()
        self._write(ctx, formatter, every=True)
        return formatter.getvalue().rstrip("\n")

    def _write(self, ctx: Any, formatter: Any, *, every: bool) -> None:
        self.format_usage(ctx, formatter)
        _write_description(self.help, formatter)
        params = self.get_params(ctx)
        long = len(params) > MAX_FLAGS
        common: frozenset[str] = getattr(self.callback, "common_flags", frozenset[str]())
        chosen = [param for param in params if every or not long or _is_common(param, common)]
        shown = {panel: [(term(param), _text(param)) for param in below] for panel, below in panels(chosen, named=long).items()}
        more: Callable[[], dict[str, list[Row]]] | None = getattr(self.callback, "more_panels", None)
        _write_panels(shown | (more() if more else {}), formatter)
        if len(chosen) < len(params):
            formatter.write_paragraph()
            formatter.write_text(_unbroken(f"{len(params) - len(chosen)} more flags: {ctx.command_path} --help-all"))
        _restore(formatter)


class HelpGroup(TyperGroup):
    """A group of commands whose help lists them by panel."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, description, commands and flags."""
        self.format_usage(ctx, formatter)
        _write_description(self.help, formatter)
        shown: dict[str, list[Row]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                summary = (command.help or "").strip().partition("\n\n")[0]
                panel = getattr(command, "rich_help_panel", None) or "Commands"
                shown.setdefault(panel, []).append((name, _unbroken(" ".join(summary.split()))))
        for param in self.get_params(ctx):
            shown.setdefault(OPTIONS, []).append((term(param), _text(param)))
        _write_panels(shown, formatter)
        _restore(formatter)


def show_all(ctx: typer.Context, wanted: bool) -> None:
    """Print the help with every flag and exit: the callback of ``--help-all``."""
    if wanted and not ctx.resilient_parsing:
        command: Any = ctx.command
        typer.echo(command.help_all(ctx))
        raise typer.Exit


HelpAllFlag = Annotated[bool, typer.Option("--help-all", is_eager=True, callback=show_all, help="Show every flag and exit.")]


def panels(params: Sequence[Any], *, named: bool) -> dict[str, list[Any]]:
    """Return the parameters by the title of their panel, arguments first; `named` panels stand for topics, else all flags share one."""
    found: dict[str, list[Any]] = {}
    for param in sorted(params, key=lambda param: param.param_type_name != "argument"):
        found.setdefault(_panel(param) if named else _plain_panel(param), []).append(param)
    return found


def term(param: Any) -> str:
    """Return the left column, such as ``-e, --epochs N``, ``--[no-]download`` or ``DATA``."""
    if param.param_type_name == "argument":
        return str(param.metavar or param.name.upper())
    names = sorted(param.opts, key=lambda name: name.startswith("--"))
    if any(name.startswith("--no-") for name in param.secondary_opts):
        names[-1] = names[-1].replace("--", "--[no-]", 1)
    indent = "" if len(names) > 1 or not names[0].startswith("--") else "    "
    return indent + ", ".join(names) + ("" if getattr(param, "is_flag", False) else f" {param.metavar}")


def default(param: Any) -> str:
    """Return the default as the help shows it; empty if it is None, False or empty, or if the text of the help names it."""
    shown: Any = getattr(param, "show_default", False)
    if shown is True:
        shown = "" if param.default in {None, False, ""} or callable(param.default) else param.default
    return str(shown or "")


def _is_common(param: Any, common: frozenset[str]) -> bool:
    return param.param_type_name == "argument" or param.name in {"help", "help_all"} or param.name in common


def _panel(param: Any) -> str:
    return getattr(param, "rich_help_panel", None) or _plain_panel(param)


def _plain_panel(param: Any) -> str:
    return "Arguments" if param.param_type_name == "argument" else OPTIONS


def _write_description(text: str | None, formatter: Any) -> None:
    r"""Write the paragraphs of a docstring, each as one text; a paragraph of examples, which starts with ``\b``, keeps its lines."""
    for paragraph in (text or "").strip().split("\n\n"):
        formatter.write_paragraph()
        if paragraph.startswith("\b"):
            lines = (f"  {line}".rstrip() for line in paragraph.splitlines()[1:])
            formatter.write("\n".join(lines) + "\n")
        else:
            formatter.write_text(_unbroken(" ".join(paragraph.split())))


def _write_panels(panels: dict[str, list[Row]], formatter: Any) -> None:
    """Write each panel under its title; the second columns of all panels are aligned."""
    limit = int(TERM_SHARE * formatter.width)
    column = max((len(term) for rows in panels.values() for term, _ in rows if len(term) <= limit), default=0)
    for title, rows in panels.items():
        with formatter.section(typer.style(title, bold=True)):
            formatter.write_dl([(term.ljust(column), text) for term, text in rows], col_max=column)


def _text(param: Any) -> str:
    """Return the right column: the help, and the default unless it is None, False or empty."""
    shown = default(param)
    marked = f"[default: {shown}]" if shown else ""
    return " ".join(part for part in (_unbroken(param.help or ""), _unbroken(marked, spaces=True)) if part)


def _unbroken(text: str, *, spaces: bool = False) -> str:
    """Return `text` so that no line ends at its hyphens, and with `spaces` at its spaces."""
    text = text.replace("-", UNBROKEN["-"])
    return text.replace(" ", UNBROKEN[" "]) if spaces else text


def _restore(formatter: Any) -> None:
    """Replace the characters of `_unbroken` by hyphens and spaces."""
    text = formatter.getvalue()
    for plain, mark in UNBROKEN.items():
        text = text.replace(mark, plain)
    formatter.buffer[:] = [text]
