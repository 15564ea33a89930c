"""``cnnkit archs``: the list of the installed architectures, and the details of one.

The plain list is read from metadata and source text. No package is imported, so a broken package is a marked row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.columns import Columns
from rich.table import Table
from rich.text import Text

from cnnkit.architecture import Architecture, Family, options, parse_options
from cnnkit.cli import console
from cnnkit.cli.help import CONTEXT, HelpCommand, HelpGroup
from cnnkit.cli.options import JsonFlag
from cnnkit.errors import CheckFailedError, PluginError, closest, counted
from cnnkit.registry import ARCHITECTURES, Entry, find, load, load_architecture, load_problem, peek, standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnnkit.model.size import Size

HELP = """List the architectures, or show one of them.

\b
cnnkit archs                   every installed architecture; nothing is loaded
cnnkit archs 'timm/*net*'      members of the family timm
cnnkit archs --check           load each architecture and mark the broken ones
cnnkit archs show NAME         options, parameters, multiply-adds, source
"""


class ListByDefault(HelpGroup):
    """A group of commands whose default command is ``list``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``list`` before arguments that start with no command's name."""
        named = bool(args) and args[0] in {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if named else ["list", *args])


command = typer.Typer(cls=ListByDefault, subcommand_metavar="[PATTERN] | show NAME", help=HELP, rich_markup_mode=None)


@dataclass(frozen=True)
class Row:
    """One row of the list; `problem` says why the architecture does not load."""

    name: str
    summary: str
    package: str
    version: str
    problem: str | None = None


@command.command("list", cls=HelpCommand, context_settings=CONTEXT)
def list_command(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="[PATTERN]", help="Names to list, with * and ?. FAMILY/PATTERN lists the members of a family.", show_default=False
        ),
    ] = "*",
    check: Annotated[
        bool, typer.Option("--check", help="Load each architecture, mark the broken ones, and exit with 1 if there are any.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """List architectures; `cnnkit archs [PATTERN]` does the same.

    \b
    cnnkit archs list 'deep*'
    cnnkit archs list 'timm/*net*' --json
    """
    members = "/" in pattern
    rows = _members(pattern) if members else _entries(pattern)
    if check:
        rows = [row if row.problem else replace(row, problem=load_problem(ARCHITECTURES, row.name)) for row in rows]
    if json:
        console.print_json({"architectures": [asdict(row) for row in rows]})
    elif members and not check:
        _print_names([row.name for row in rows])
        console.say_end(console.err(), f"{len(rows)} architectures match {pattern!r}", f"cnnkit archs show {rows[0].name}")
    else:
        console.out().print(_table(rows))
        number = counted(len(rows), "architecture or family", "architectures and families")
        console.say_end(console.err(), number, "cnnkit archs show custom-cnn")
    broken = [row.name for row in rows if row.problem]
    if check and broken:
        raise CheckFailedError(f"{len(broken)} of {len(rows)} architectures do not load: {', '.join(broken)}")


@command.command("show", cls=HelpCommand, context_settings=CONTEXT)
def show_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Architecture, such as custom-cnn or timm/resnet18.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Option of the architecture, such as width=64. Repeat it for more options."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Show one architecture: its options, parameters, multiply-adds, source and published weights.

    \b
    cnnkit archs show custom-cnn --set width=64
    cnnkit archs show timm/resnet18
    """
    architecture, entry = load_architecture(name)
    chosen = parse_options(architecture, name, settings or ())
    from cnnkit.model.size import measure

    size = measure(architecture, entry, chosen)
    card = _card(name, architecture, entry, chosen, size)
    if json:
        console.print_json(card)
    else:
        _print_card(card)
        chosen_flags = "".join(f" --set {setting}" for setting in settings or ())
        sentence = "published weights start a training with --weights pretrained" if architecture.pretrained else "no published weights"
        console.say_end(console.err(), sentence, f"cnnkit train --data ./images --arch {name}{chosen_flags}")


def _entries(pattern: str) -> list[Row]:
    """Return a row for every registered name that matches; a name that two packages register has two rows."""
    found = find(ARCHITECTURES)
    rows = [_row(entry, entries) for name, entries in found.items() if _matches(name, pattern) for entry in entries]
    rows = rows or [_row(entry, entries) for entries in found.values() for entry in entries if _matches(entry.full_name, pattern)]
    if not rows:
        raise PluginError(
            f"no architecture matches {pattern!r}{closest(pattern, found)} Known: {', '.join(found) or 'none'}; "
            f"to search the members of a family, put its name first: cnnkit archs 'timm/*{pattern.strip('*')}*'"
        )
    return rows


def _row(entry: Entry, entries: Sequence[Entry]) -> Row:
    """Return the row of `entry` among the `entries` of its name; a built-in name always means the built-in one."""
    found = peek(entry)
    state, why = standing(entry, entries)
    name = entry.full_name if state == "hidden" else entry.name
    return Row(name, found.summary, entry.package, entry.version, why if state == "taken" else found.problem)


def _members(pattern: str) -> list[Row]:
    """Load the family and return a row for every member that matches ``family/pattern``."""
    prefix, _, wanted = pattern.partition("/")
    value, entry = load(ARCHITECTURES, prefix)
    if not isinstance(value, Family):
        raise PluginError(
            f"architecture {prefix!r} of {entry.origin} is not a family and has no members; show it with: cnnkit archs show {prefix}"
        )
    names = list(value.members())
    matching = [name for name in names if _matches(name, wanted)]
    if not matching:
        raise PluginError(
            f"family {prefix!r} ({entry.origin}) has no member that matches {wanted!r}{closest(wanted, names)} "
            f"It has {len(names)}; list them with: cnnkit archs '{prefix}/*'"
        )
    return [Row(f"{prefix}/{name}", "", entry.package, entry.version) for name in matching]


def _matches(name: str, pattern: str) -> bool:
    return fnmatch(name.lower(), pattern.lower())


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("architecture", no_wrap=True, overflow="fold")
    table.add_column("package", no_wrap=True, overflow="fold")
    table.add_column("", overflow="fold")
    for row in rows:
        note = Text(f"broken: {row.problem}", style="red") if row.problem else Text(row.summary)
        table.add_row(Text(row.name, style="red" if row.problem else "bold"), Text(f"{row.package} {row.version}", style="dim"), note)
    return table


def _print_names(names: Sequence[str]) -> None:
    """Print names in columns on a terminal and one name per line in a pipe."""
    stream = console.out()
    if stream.is_terminal:
        stream.print(Columns([Text(name) for name in names], column_first=True, padding=(0, 2)))
    else:
        for name in names:
            stream.print(Text(name), soft_wrap=True)


def _card(name: str, architecture: Architecture, entry: Entry, chosen: dict[str, Any], size: Size) -> dict[str, Any]:
    """Return all that `cnnkit archs show` prints, as one JSON object."""
    weights = architecture.pretrained
    return {
        "name": name,
        "summary": architecture.summary,
        "package": entry.package,
        "version": entry.version,
        "source": entry.value,
        "reference": architecture.reference,
        "image_size": size.image_size,
        "classes": size.num_classes,
        "parameters": size.parameters,
        "macs": size.macs,
        "options": [
            {
                "name": option.name,
                "type": option.type.__name__,
                "default": option.default,
                "value": chosen[option.name],
                "choices": list(option.choices),
                "low": option.low,
                "high": option.high,
                "limits": option.limits,
            }
            for option in options(architecture, name).values()
        ],
        "pretrained": None
        if weights is None
        else {
            "place": weights.place,
            "image_size": weights.image_size,
            "mean": weights.mean,
            "std": weights.std,
            "interpolation": weights.interpolation,
            "crop": weights.crop,
        },
    }


def _print_card(card: dict[str, Any]) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    weights = card["pretrained"]
    rows = {
        card["name"]: card["summary"],
        "package": f"{card['package']} {card['version']} ({card['source']})",
        "reference": card["reference"] or "none given",
        "image size": f"{card['image_size']} px",
        "parameters": f"{card['parameters']:,} with {card['classes']} classes",
        "multiply-adds": f"{card['macs']:,} for one RGB image of {card['image_size']} px",
        "weights": weights["place"] if weights else "none published",
    }
    for label, text in rows.items():
        grid.add_row(Text(label), Text(text))
    stream = console.out()
    stream.print(grid)
    if not card["options"]:
        return
    stream.print(Text.assemble("\n", ("Options", "bold"), ", set with --set NAME=VALUE"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("option", "type", "default", "value"):
        table.add_column(column, no_wrap=True, overflow="fold")
    if any(option["limits"] for option in card["options"]):
        table.add_column("allowed", overflow="fold")
    for option in card["options"]:
        changed = option["value"] != option["default"]
        values = (option["name"], option["type"], option["default"], option["value"], option["limits"])
        styles = ("", "", "", "bold" if changed else "", "")
        table.add_row(*(Text(str(value), style=style) for value, style in zip(values[: len(table.columns)], styles, strict=False)))
    stream.print(table)
