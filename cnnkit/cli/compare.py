"""``cnnkit compare``: which of several models is better, and whether these images can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnnkit.cli import console
from cnnkit.cli.options import JsonFlag, OtherDataOption, SplitOption


def command(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN RUN...", help="Two or more runs, model files or .onnx. The first is the old one."),
    ],
    data: OtherDataOption = None,
    split: SplitOption = None,
    overlap: Annotated[
        bool,
        typer.Option("--overlap", help="Compare runs of different splits on the images that all were tested on and none was trained on."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the files. Default: compare/SPLIT/OTHERS of the first run."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Compare models on the same test images: an exact test, intervals of the differences, images fixed and broken."""
    from cnnkit.api.evaluation.compare import compare as run_comparison

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
