"""``cnnkit export``: a file for other programs, checked against the model."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from cnnkit.cli import console
from cnnkit.cli.options import JsonFlag, TrainedModelOption
from cnnkit.cli.setting_flags import device_of, with_options
from cnnkit.errors import ConfigError


@with_options("device")
def command(
    given: dict[str, Any],
    model: TrainedModelOption = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write ONNX: uint8 images of any size in, probabilities and labels out.")] = False,
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", metavar="SOURCE", help="Images for the parity check. Default: the run's validation images."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to write. Default: export/model.onnx of the run.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Export a model to one self-contained file, which is kept only if its predictions on real images equal the model's.

    \b
    cnnkit export --onnx
    cnnkit export --onnx --model runs/001-custom-cnn --out model.onnx
    """
    if not onnx:
        raise ConfigError("cnnkit export needs a format, which is --onnx: cnnkit export --onnx")
    from cnnkit.api.inference.export import export as run_export

    result = run_export(model, to="onnx", data=data, out=out, device=device_of(given))
    console.say_model(result.target)
    if json:
        console.print_json(result.to_dict())
        return
    parity, shown = result.parity.to_dict(), console.out()
    console.say(shown, f"{result.path}  {result.path.stat().st_size / 1e6:.1f} MB")
    console.say_end(
        shown,
        f"parity on {parity['n']} images ({result.images}): top-1 agreement {100 * parity['top1_agreement']:.2f} %, "
        f"largest difference of a probability {parity['max_abs_probability_difference']:.1e}",
        f"cnnkit eval --model {shlex.quote(str(result.path))}",
    )
