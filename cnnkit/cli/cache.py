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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnnkit.data.store.store import StoreInfo

UNITS = ("B", "kB", "MB", "GB", "TB")
UNIT_FACTOR = 1000  # bytes of a kB, as disks are sold and file managers count


def command(
    clear: Annotated[bool, typer.Option("--clear", help="Remove every decoded image. The next command decodes again.")] = False,
    json: JsonFlag = False,
) -> None:
    """Show or remove the decoded images that cnnkit keeps; your own images are not touched.

    \b
    cnnkit cache
    cnnkit cache --clear
    """
    from cnnkit.data.store import store

    folder, found = store.cache_folder(), store.stores()
    freed = store.clear() if clear else 0
    if json:
        stores = [{"path": str(info.path), "source": info.source, "images": info.images, "bytes": info.bytes} for info in found]
        console.print_json({"folder": str(folder), "bytes": sum(info.bytes for info in found), "freed": freed, "stores": stores})
        return
    shown = console.out()
    total = f"{len(found)} {'store' if len(found) == 1 else 'stores'}, {size(sum(info.bytes for info in found))}"
    if clear:
        console.say(shown, f"{folder}: removed {total}" if found else f"{folder}: no stores to remove")
        return
    console.say(shown, f"{folder}: {total}" if found else f"{folder}: no stores")
    if found:
        shown.print(_table(found))
        console.say_end(
            console.err(), "they can be removed: the next command that reads the images decodes them again", "cnnkit cache --clear"
        )


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
        table.add_row(Text(escaped(info.source) or "(an interrupted scan, or another version)"), f"{info.images:,}", size(info.bytes), used)
    return table
