"""``cnnkit compare``: which of several models is better, and whether these images can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cnnkit.cli import console


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more run directories, model files or .onnx; the first is the old one.", show_default=False)
    ],
    data: Annotated[str | None, typer.Option("--data", "-d", help="Other labelled images than the runs' own.", show_default=False)] = None,
    split: Annotated[
        Literal["train", "val", "test"] | None, typer.Option(help="By default test, or val if there is no test.", show_default=False)
    ] = None,
    overlap: Annotated[
        bool, typer.Option("--overlap", help="Runs of different splits: take the images that all were tested on and none was trained on.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the files; by default compare/SPLIT/OTHERS of the first run.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the comparison as one JSON document.")] = False,
) -> None:
    """Compare models on the same test images: exact test, intervals of the differences, images fixed and broken."""
    from cnnkit.api import compare as run_comparison

    screen = console.err()
    with console.progress(screen, "reading images") as update:
        result = run_comparison(runs, data=data, split=split, overlap=overlap, out=out, progress=update)
    for text in result.notes:
        console.labelled(screen, "note", text, "yellow")
    if json:
        console.print_json(result.to_dict())
        return
    from cnnkit.report.terminal.comparison import comparison_summary

    shown = console.out()
    shown.print(comparison_summary(result))
    if result.folder is not None:
        console.say(shown, f"files {result.folder}")
