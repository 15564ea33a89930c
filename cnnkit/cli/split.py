"""``cnnkit split``: a split of images into train, val and test, written to a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cnnkit.cli import console
from cnnkit.cli.options import DataArgument, JsonFlag
from cnnkit.cli.setting_flags import with_options
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import by_section
from cnnkit.errors import counted, shell_path, shell_word

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CLASSES = 30  # rows of the table, which shows the smallest classes if there are more


@with_options("split", "split_file", "group_by", "classes", "exclude", "download", "on_bad", "workers", "seed")
def command(
    given: dict[str, Any],
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="File to write.")] = Path("split.csv"),
    by: Annotated[
        Literal["content", "path"],
        typer.Option(
            metavar="content|path",
            help="Hash that decides the split of an image. path opens no image, which suits a million rows but finds no copies.",
        ),
    ] = "content",
    json: JsonFlag = False,
) -> None:
    """Split images into train, val and test, and write the split to a file.

    Every class is split in the same shares, and copies and groups stay together. Images added later move no image to another split.

    \b
    cnnkit split ./images --split 0.8/0.1/0.1
    cnnkit train --data ./images --split-file split.csv
    """
    settings = resolve(by_section({"data": data, **given}))
    from cnnkit.api.images.split import divide

    screen = console.err()
    with console.progress(screen, "reading images") as update:
        division = divide(settings.data, out=out, seed=settings.run.seed, by=by, progress=update)
    console.say_notes(screen, division.notes)
    console.say_skipped(screen, division.bad, "--json")
    if json:
        bad = [{"path": path, "error": error} for path, error in division.bad]
        console.print_json({"file": str(division.path), "counts": division.counts, "unreadable": bad, "notes": list(division.notes)})
        return
    shown = console.out()
    shown.print(split_table(division.counts))
    console.say_end(
        shown,
        f"{counted(len(division.samples))} in {division.path}",
        f"cnnkit train --data {shell_word(data)} --split-file {shell_path(division.path)}",
    )


def split_table(counts: Mapping[str, Mapping[str, int]]) -> RenderableType:
    """Return the table of images per class and split; it shows the `MAX_CLASSES` smallest classes, which may lack a split."""
    from cnnkit.report.terminal.console import escaped

    used = [name for name in next(iter(counts.values())) if any(row.get(name) for row in counts.values())]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_footer=True)
    table.add_column("class", Text("all", style="bold"), overflow="fold")
    for name in used:
        table.add_column(name, f"{sum(row.get(name, 0) for row in counts.values()):,}", justify="right", no_wrap=True)
    shown = list(counts) if len(counts) <= MAX_CLASSES else sorted(counts, key=lambda label: sum(counts[label].values()))[:MAX_CLASSES]
    for label in shown:
        table.add_row(Text(escaped(label)), *(f"{counts[label].get(name, 0):,}" for name in used))
    if len(shown) < len(counts):
        return Group(table, Text(f"The {len(shown)} smallest of {len(counts)} classes.", style="dim"))
    return table
