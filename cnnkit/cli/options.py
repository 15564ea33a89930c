"""Flags that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _split_name(text: str) -> str:
    """Return the split that `text` names, by any of its aliases such as ``valid``."""
    from cnnkit.data.source import ALIASES, SPLITS  # loads numpy

    split = ALIASES.get(text.strip().lower())
    if split is None:
        raise typer.BadParameter(f"{text!r} is no split; allowed: {', '.join(SPLITS)}")
    return split


JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Run directory, model file (best.safetensors) or exported file (.onnx). Default: the newest finished run.",
        show_default=False,
    ),
]
TrainedModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Run directory or model file (best.safetensors). Default: the newest finished run.",
        show_default=False,
    ),
]
OtherDataOption = Annotated[
    str | None,
    typer.Option("--data", "-d", metavar="SOURCE", help="Labelled images other than the run's own, as `train --data` takes them."),
]
IncludeTrainedFlag = Annotated[
    bool,
    typer.Option(
        "--include-trained", help="Measure also those images of --data that the model was trained on. They are left out otherwise."
    ),
]
SplitOption = Annotated[
    str | None,
    typer.Option(metavar="SPLIT", parser=_split_name, help="train, val or test. Default: test, or val if there is no test."),
]
DataArgument = Annotated[str, typer.Argument(metavar="DATA", help="Images, as `train --data` takes them.", show_default=False)]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Named defaults: default, case-study, fast or finetune. Default: finetune with --weights, else default.",
        rich_help_panel="Recipe",
    ),
]
ConfigOption = Annotated[Path | None, typer.Option(metavar="FILE", help="TOML file of settings. Flags override it.", rich_help_panel="Run")]
