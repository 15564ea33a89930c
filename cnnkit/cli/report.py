"""``cnnkit report``: one page on a run, to look at and to hand on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cnnkit.cli import console
from cnnkit.errors import ConfigError


def report(
    run: Annotated[Path | None, typer.Argument(help="Run directory; by default the newest finished run.", show_default=False)] = None,
    split: Annotated[
        Literal["train", "val", "test"] | None, typer.Option(help="By default test, or val if there is no test.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page, an .html file; by default report.html of the run.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print where the page is and what it holds as one JSON document.")] = False,
) -> None:
    """Write one self-contained HTML page on a run: data, curves, metrics, confusions with their images, how to repeat it.

    Evaluates the run first if it has no evaluation; that counts as opening
    test. The page loads nothing from anywhere.
    """
    if out is not None and out.suffix.lower() not in {".html", ".htm"}:
        raise ConfigError(f"--out {out}: the ending must be .html")
    from cnnkit.api import report as write_report

    screen = console.err()
    with console.progress(screen, "reading images") as update:
        written = write_report(run, split=split, out=out, progress=update)
    console.say_model(written.target)
    for note in written.notes:
        console.labelled(screen, "note", note, "yellow")
    if json:
        console.print_json(written.to_dict())
        return
    console.say(console.out(), f"page {written.path} ({written.bytes / 1e6:.1f} MB, {written.pictures} pictures, loads nothing)")
