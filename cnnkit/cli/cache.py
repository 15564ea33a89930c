"""``cnnkit cache``: the stores of decoded images, with their source and size."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from cnnkit.cli import console
from cnnkit.cli.options import JsonFlag
from cnnkit.errors import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnnkit.data.store.cache import StoreInfo

UNITS = ("B", "kB", "MB", "GB", "TB")
UNIT_FACTOR = 1000  # bytes of a kB, as disks are sold and file managers count


def command(
    clear: Annotated[bool, typer.Option("--clear", help="Remove every decoded image. The next command decodes again.")] = False,
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Remember a limit of all stores, such as 20GB, and remove the stores beyond it that were not used for the longest time. "
            "Without a limit of yours it is a quarter of the disk; auto returns to it.",
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Show, limit or remove the decoded images that cnnkit keeps; your own images are not touched.

    \b
    cnnkit cache
    cnnkit cache --limit 20GB
    cnnkit cache --clear
    """
    from cnnkit.data.store import cache
    from cnnkit.data.store.store import cache_folder

    if limit is not None:
        cache.set_limit(None if limit == "auto" else cache.parse_size(limit, "--limit"))
    folder, most, freed = cache_folder(), cache.limit(), 0
    if limit is not None:
        freed = sum(info.bytes for info in cache.keep_limit())
    found, stay = cache.stores(), []
    if clear:
        stay, freed = cache.clear()
    if json:
        stores = [{"path": str(info.path), "source": info.source, "images": info.images, "bytes": info.bytes} for info in found]
        total = sum(info.bytes for info in found)
        console.print_json({"folder": str(folder), "limit": most, "bytes": total, "freed": freed, "stores": stores})
        return
    shown = console.out()
    if clear:
        removed = _total([info for info in found if info.path not in stay])
        console.say(shown, f"{folder}: removed {removed}" if len(found) > len(stay) else f"{folder}: no stores to remove")
        if stay:
            console.say(shown, f"{counted(len(stay), 'store is', 'stores are')} being written by another command and stay")
        return
    if freed:
        console.say(shown, f"removed {size(freed)}, to keep the limit")
    console.say(shown, f"{folder}: {_total(found) if found else 'no stores'}; limit {size(most)}")
    if found:
        shown.print(_table(found))
        console.say_end(
            console.err(), "they can be removed: the next command that reads the images decodes them again", "cnnkit cache --clear"
        )


def _total(stores: Sequence[StoreInfo]) -> str:
    """Return the number of stores and their size in words."""
    return f"{counted(len(stores), 'store')}, {size(sum(info.bytes for info in stores))}"


def size(count: int) -> str:
    """Return a number of bytes with its unit, such as ``1.2 GB``."""
    value, unit = float(count), 0
    while value >= UNIT_FACTOR and unit < len(UNITS) - 1:
        value, unit = value / UNIT_FACTOR, unit + 1
    return f"{value:.{min(unit, 1)}f} {UNITS[unit]}"


def _table(stores: Sequence[StoreInfo]) -> Table:
    from cnnkit.report.terminal.console import escaped

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("data", overflow="fold")
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("last used", no_wrap=True)
    for info in stores:
        used = datetime.fromtimestamp(info.used).astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(Text(escaped(info.source) or "(of another version)"), f"{info.images:,}", size(info.bytes), used)
    return table
