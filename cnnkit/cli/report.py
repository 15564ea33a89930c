"""``cnnkit report``: one page on a run, to look at and to hand on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cnnkit.cli import console
from cnnkit.errors import ConfigError


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]", help="Run directory, with --compare several; by default the newest finished run.", show_default=False
        ),
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="One page on several runs, with what one fixes and another breaks.")] = False,
    split: Annotated[
        Literal["train", "val", "test"] | None, typer.Option(help="By default test, or val if there is no test.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The page, an .html file; by default report.html of the run, comparison.html of the first.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print where the page is and what it holds as one JSON document.")] = False,
) -> None:
    """Write one self-contained HTML page on a run: data, curves, metrics, confusions with their images, how to repeat it.

    Evaluates the run first if it has no evaluation; that counts as opening
    test. The page loads nothing from anywhere.
    """
    if out is not None and out.suffix.lower() not in {".html", ".htm"}:
        raise ConfigError(f"--out {out}: the ending must be .html")
    _check_runs(runs or [], several=compare)
    screen = console.err()
    with console.progress(screen, "reading images") as update:
        if compare:
            from cnnkit.api import report_comparison

            written = report_comparison(runs or [], split=split, out=out, progress=update)
        else:
            from cnnkit.api import report as write_report

            written = write_report(runs[0] if runs else None, split=split, out=out, progress=update)
            console.say_model(written.target)
    for note in written.notes:
        console.labelled(screen, "note", note, "yellow")
    if json:
        console.print_json(written.to_dict())
        return
    console.say(console.out(), f"page {written.path} ({written.bytes / 1e6:.1f} MB, {written.pictures} pictures, loads nothing)")


def _check_runs(runs: list[Path], *, several: bool) -> None:
    """Refuse a number of runs that the page is not made for."""
    if several and len(runs) < 2:  # noqa: PLR2004 - to compare takes two
        raise ConfigError("--compare takes two or more runs: cnnkit report --compare RUN RUN; cnnkit runs lists them")
    if not several and len(runs) > 1:
        named = " ".join(map(str, runs))
        raise ConfigError(f"{len(runs)} runs for one page: add --compare to put them side by side: cnnkit report --compare {named}")
