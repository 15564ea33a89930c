"""``cnnkit export``: a file that other programs run, checked against the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnnkit.cli import console
from cnnkit.errors import ConfigError


def export(
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="Run directory or model file; by default the newest finished run.", show_default=False),
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write ONNX: uint8 images of any size in, probabilities and labels out.")] = False,
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", help="Images for the parity check; by default the run's validation images.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; by default export/model.onnx of the run.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print path and parity as one JSON document.")] = False,
) -> None:
    """Export a model to one self-contained file, kept only if it gives the model's answers on real images."""
    if not onnx:
        raise ConfigError("cnnkit export: say which format: cnnkit export --onnx")
    from cnnkit.api import export as run_export

    result = run_export(model, to="onnx", data=data, out=out)
    console.say_model(result.target)
    if json:
        console.print_json({"path": str(result.path), "images": result.images, **result.parity.to_dict()})
        return
    parity, shown = result.parity.to_dict(), console.out()
    console.say(shown, f"{result.path}  {result.path.stat().st_size / 1e6:.1f} MB")
    console.say(
        shown,
        f"parity on {parity['n']} images ({result.images}): top-1 agreement {100 * parity['top1_agreement']:.2f} %, "
        f"largest difference of a probability {parity['max_abs_probability_difference']:.1e}",
    )
