"""``cnnkit compare``: the differences between models on the same images, with their significance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cnnkit.cli import console
from cnnkit.cli.options import IncludeTrainedFlag, JsonFlag, OtherDataOption, SplitOption
from cnnkit.cli.setting_flags import device_of, with_options
from cnnkit.errors import shell_path


@with_options("device")
def command(
    given: dict[str, Any],
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN RUN...", help="Two or more runs, model files or .onnx files. Put the oldest first."),
    ],
    data: OtherDataOption = None,
    include_trained: IncludeTrainedFlag = False,
    split: SplitOption = None,
    overlap: Annotated[
        bool,
        typer.Option("--overlap", help="Compare runs of different splits on the images that are in every test split and no train split."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the files. Default: compare/SPLIT/OTHERS of the first run."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Compare models on the same test images: an exact test, intervals of the differences, images fixed and broken.

    A run without an evaluation is evaluated first, which opens its test split.

    \b
    cnnkit compare runs/001-custom-cnn runs/002-residual-cnn
    cnnkit compare runs/001-custom-cnn runs/002-residual-cnn --split val
    """
    from cnnkit.api.evaluation.compare import compare as run_comparison

    screen = console.err()
    with console.progress(screen, "reading images") as update:
        result = run_comparison(
            runs,
            data=data,
            split=split,
            overlap=overlap,
            include_trained=include_trained,
            out=out,
            device=device_of(given),
            progress=update,
        )
    console.say_notes(screen, result.notes)
    if json:
        console.print_json(result.to_dict())
        return
    from cnnkit.report.terminal.comparison import comparison_summary, final_sentence

    shown = console.out()
    shown.print(comparison_summary(result))
    if result.folder is not None:
        console.say(shown, f"files {result.folder}")
    console.say_end(shown, final_sentence(result), f"cnnkit report --compare {' '.join(map(shell_path, runs))}")
