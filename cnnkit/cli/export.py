"""``cnnkit export``: a file for other programs, checked against the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnkit.cli import console
from cnnkit.cli.options import JsonFlag, TrainedModelOption
from cnnkit.cli.setting_flags import device_of, with_options
from cnnkit.errors import ConfigError, counted, shell_path
from cnnkit.registry import EXPORTERS, find, peek

if TYPE_CHECKING:
    from rich.console import Console

    from cnnkit.api.exports.export import Export
    from cnnkit.api.exports.int8_result import Int8Export

ONNX = "onnx"


@with_options("device")
def command(
    given: dict[str, Any],
    model: TrainedModelOption = None,
    to: Annotated[str | None, typer.Option("--to", metavar="NAME", help="Format: one of the exporters below.", show_default=False)] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="The same as --to onnx.")] = False,
    input_kind: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="images|canvas|float",
            help="Input: images of any size, images after the resize and crop (canvas), or normalised images (float). Default: images.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="probabilities|logits",
            help="Output: probabilities, or logits before the temperature. Default: probabilities.",
        ),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Compute in 16 bits: half the size. Inputs and outputs stay as they are.")] = False,
    opset: Annotated[int | None, typer.Option(metavar="N", help="Version of the ONNX operators, 18 to 21. Default: 18.")] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write 8-bit integers, about a quarter of the size. The file is kept if it wins.")
    ] = False,
    max_loss: Annotated[
        float | None,
        typer.Option(metavar="SHARE", min=0, max=1, help="The accuracy that --int8 may cost on val, as a share. Default: 0.01."),
    ] = None,
    triton: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the ONNX file into the model repository DIR of a Triton server.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", metavar="SOURCE", help="Images for the parity check. Default: the run's validation images."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="File or existing folder. Default: export/model.onnx of the run.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Export a model to one self-contained file, which is kept only if its predictions on real images equal the model's.

    \b
    cnnkit export --onnx
    cnnkit export --onnx --model runs/001-custom-cnn --out model.onnx
    cnnkit export --to onnx --input canvas --int8
    cnnkit export --triton ./model-repository
    """
    exporter = _exporter(to, onnx=onnx, implied=int8 or triton is not None)
    if max_loss is not None and not int8:
        raise ConfigError(f"--max-loss {max_loss:g}: it belongs to --int8; add --int8, or leave out --max-loss")
    from cnnkit.api.exports.export import MAX_LOSS
    from cnnkit.api.exports.export import export as run_export

    with console.spinner(console.err(), "loading", lines=True) as tell:
        result = run_export(
            model,
            to=exporter,
            data=data,
            out=out,
            input=input_kind,
            output=output,
            half=half,
            opset=opset,
            int8=int8,
            max_loss=MAX_LOSS if max_loss is None else max_loss,
            triton=triton,
            device=device_of(given),
            tell=tell,
        )
    console.say_model(result.target)
    if json:
        console.print_json(result.to_dict())
    else:
        _show(result, console.out())
    if result.int8 is not None and result.int8.path is None:
        raise typer.Exit(1)


def _exporters() -> dict[str, list[tuple[str, str]]]:
    """Return the panel of the installed exporters: name and summary."""
    return {"Exporters": [(name, peek(entries[0]).summary) for name, entries in find(EXPORTERS).items()]}


command.more_panels = _exporters  # type: ignore[attr-defined]


def _exporter(to: str | None, *, onnx: bool, implied: bool) -> str:
    """Return the name of the exporter; raises `ConfigError` if none, or two different ones, are named."""
    if onnx and to not in {None, ONNX}:
        raise ConfigError(f"--onnx --to {to}: two formats; leave out one of the two")
    if to is None and not onnx and not implied:
        names = ", ".join(find(EXPORTERS))
        raise ConfigError(f"cnnkit export needs a format: cnnkit export --onnx, or --to NAME. Known: {names}")
    return to or ONNX


def _show(result: Export, shown: Console) -> None:
    """Print the file, the result of a quantisation, the folder of a repository, and the parity."""
    console.say(shown, f"{result.path}  {result.path.stat().st_size / 1e6:.1f} MB")
    if result.int8 is not None:
        _show_int8(result.int8, shown)
    if result.repository is not None:
        console.say(shown, f"{result.repository}  a model of a Triton repository")
    parity = result.parity
    console.say_end(
        shown,
        f"parity on {counted(parity.n)} ({result.images}): top-1 agreement {100 * parity.top1_agreement:.2f} %, "
        f"largest difference of a probability {result.certificate.largest_difference:.1e}",
        f"cnnkit eval --model {shell_path(result.path)}",
    )


def _show_int8(int8: Int8Export, shown: Console) -> None:
    """Print the figures of a quantisation beside those in 32 bits, and each gain that it does not bring."""
    found, (large, small), (slow, fast) = int8.comparison, int8.sizes, int8.cpu_ms
    (was, now), change = found.accuracies, found.test.difference
    if int8.path is not None:
        console.say(shown, f"{int8.path}  {small / 1e6:.1f} MB")
    console.say(
        shown,
        f"int8: accuracy {100 * now:.1f} % instead of {100 * was:.1f} % on {found.n} {found.split} images "
        f"(difference {100 * change.value:+.1f} %, {100 * change.low:+.1f} to {100 * change.high:+.1f} %, McNemar p = {found.test.p:.2g}); "
        f"{small / 1e6:.1f} MB instead of {large / 1e6:.1f}; {fast:.2f} CPU-ms an image instead of {slow:.2f}; "
        f"temperature {int8.header.temperature:.2f}",
    )
    console.say_notes(shown, int8.notes)
    if int8.path is None:
        console.say(shown, f"int8: not kept, because {int8.reason}")
