"""``cnnkit plugins``: the list of installed plugins, the check of one of them, and the scaffold of a new package."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from cnnkit.cli import console
from cnnkit.cli.help import CONTEXT, HelpCommand, HelpGroup
from cnnkit.cli.options import JsonFlag
from cnnkit.errors import CheckFailedError, closest, counted, shell_path
from cnnkit.registry import (
    ARCHITECTURES,
    AUGMENTATIONS,
    EXPORTERS,
    GROUPS,
    LOSSES,
    METRICS,
    OPTIMIZERS,
    SOURCES,
    TRACKERS,
    noun,
    short_name,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnnkit.api.plugins.installed import InstalledPlugin
    from cnnkit.api.plugins.plugin_report import CheckResult, PluginReport

HELP = """List the installed plugins, check one of them, or make a new package.

\b
cnnkit plugins list                  every plugin, its package and its state
cnnkit plugins new tinynet           a package that installs and trains
cnnkit plugins check tinynet         does it keep every promise of a plugin?
"""
GROUP_NAMES = {short_name(group): group for group in GROUPS}
MARKS = {True: ("ok", "green"), False: ("FAIL", "bold red"), None: ("-", "dim")}
command = typer.Typer(cls=HelpGroup, no_args_is_help=True, help=HELP, rich_markup_mode=None)


def _group(text: str) -> str:
    """Return the group of entry points that `text` names, with or without ``cnnkit.``."""
    group = GROUP_NAMES.get(text.strip().removeprefix("cnnkit."))
    if group is None:
        raise typer.BadParameter(f"{text!r} is no group of plugins{closest(text, GROUP_NAMES)} Allowed: {', '.join(GROUP_NAMES)}")
    return group


GROUP_HELP = f"Group of plugins: {', '.join(GROUP_NAMES)}."


@command.command("list", cls=HelpCommand, context_settings=CONTEXT)
def list_command(
    group: Annotated[
        str | None, typer.Option(metavar="GROUP", parser=_group, help=f"{GROUP_HELP} Default: all of them.", show_default=False)
    ] = None,
    json: JsonFlag = False,
) -> None:
    """List the installed plugins with their package, version and state. Those of other packages are loaded in another process.

    \b
    cnnkit plugins list
    cnnkit plugins list --group architectures --json
    """
    from cnnkit.api.plugins.installed import list_plugins

    found = list_plugins([group] if group else GROUPS)
    if json:
        console.print_json({"plugins": [asdict(plugin) for plugin in found]})
        return
    console.out().print(_list_table(found))
    troubled = [plugin for plugin in found if plugin.state != "loads"]
    packages = {plugin.package for plugin in found}
    sentence = f"{counted(len(found), 'plugin')} of {counted(len(packages), 'package')}"
    after = f"check {troubled[0].name} --group {troubled[0].group}" if troubled else "new NAME"
    console.say_end(console.err(), f"{sentence}, {len(troubled)} not usable by name" if troubled else sentence, f"cnnkit plugins {after}")


@command.command("check", cls=HelpCommand, context_settings=CONTEXT)
def check_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Plugin, such as tinynet, PACKAGE:NAME or FAMILY/MEMBER.")],
    group: Annotated[
        str | None,
        typer.Option(metavar="GROUP", parser=_group, help=f"{GROUP_HELP} Default: the one that has the name.", show_default=False),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Check a plugin by the code that the commands use: build, train three steps, save, load, export. Exits with 1 if a check fails.

    \b
    cnnkit plugins check tinynet
    cnnkit plugins check lines --group trackers
    """
    from cnnkit.api.plugins.check import check_plugin

    report = check_plugin(name, group)
    if json:
        console.print_json(report.to_dict())
    else:
        console.out().print(_check_table(report.results))
    made = sum(result.ok is not None for result in report.results)
    if report.failed:
        raise CheckFailedError(f"{_label(report)}: {len(report.failed)} of {made} checks failed: {', '.join(report.failed)}")
    if not json:
        console.say_end(console.err(), f"{_label(report)} passes all {made} checks", _next_use(name, report.group))


@command.command("new", cls=HelpCommand, context_settings=CONTEXT)
def new_command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the plugin, such as tinynet: lower-case letters, digits and hyphens.")
    ],
    group: Annotated[str, typer.Option(metavar="GROUP", parser=_group, help="Group of plugins: any but exporters.")] = "architectures",
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder in which the folder cnnkit-NAME is made.")] = Path(),
    json: JsonFlag = False,
) -> None:
    """Make the package cnnkit-NAME, a working plugin with its tests, to be changed into your own.

    \b
    cnnkit plugins new tinynet
    cnnkit plugins new lines --group trackers --out ~/plugins
    """
    from cnnkit.api.plugins.scaffold import new_plugin

    made = new_plugin(name, group, out=out)
    if json:
        console.print_json(asdict(made) | {"folder": str(made.folder)})
        return
    shown = console.out()
    for file in made.files:
        console.say(shown, str(made.folder / file))
    flag = "" if group == ARCHITECTURES else f" --group {group.rpartition('.')[2]}"
    console.say_end(
        console.err(),
        f"{made.package} is a working plugin",
        f"pip install -e {shell_path(made.folder)} && cnnkit plugins check {name}{flag}",
    )


def _list_table(plugins: Sequence[InstalledPlugin]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("plugin", "group", "package", "state"):
        table.add_column(column, no_wrap=column != "state", overflow="fold")
    for plugin in plugins:
        style = "" if plugin.state == "loads" else "red"
        state = Text(f"{plugin.state}: {plugin.why}" if plugin.why else plugin.state, style=style)
        origin = Text(f"{plugin.package} {plugin.version}", style="dim")
        table.add_row(Text(plugin.name, style=style or "bold"), Text(plugin.group), origin, state)
    return table


def _check_table(results: Sequence[CheckResult]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for result in results:
        mark, style = MARKS[result.ok]
        text = "; ".join(filter(None, (result.problem, result.remedy, result.note)))
        table.add_row(Text(result.check), Text(mark, style=style), Text(text, style="dim" if result.ok else ""))
    return table


def _label(report: PluginReport) -> str:
    origin = f" of {report.package} {report.version}" if report.package else ""
    return f"{noun(report.group)} {report.name!r}{origin}"


def _next_use(name: str, group: str) -> str:
    """Return the command that uses the plugin `name` of `group`."""
    uses = {
        ARCHITECTURES: "train --data ./images --arch",
        SOURCES: "train --data",
        EXPORTERS: "export --to",
        TRACKERS: "train --data ./images --log",
        METRICS: "eval --metric",
        LOSSES: "train --data ./images --loss",
        OPTIMIZERS: "train --data ./images --optimizer",
        AUGMENTATIONS: "train --data ./images --augment-with",
    }
    return f"cnnkit {uses[group]} {name}"
