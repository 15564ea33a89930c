"""``cnnkit serve``: predictions over HTTP, and a page to drop images on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnnkit.cli import console
from cnnkit.cli.interruption import SIGNALS, exit_status
from cnnkit.cli.options import JsonFlag
from cnnkit.config.serving import DEFAULT_HOST, DEFAULT_PORT, ServeLimits
from cnnkit.errors import shell_word

LIMITS = ServeLimits()


def command(
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Exported file, such as model.onnx, or a run that has it. Default: the newest finished run.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on. 0.0.0.0 admits other machines.")] = DEFAULT_HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port to listen on. 0 takes a free one.")] = DEFAULT_PORT,
    queue: Annotated[
        int, typer.Option(min=1, max=1024, metavar="N", help="Requests that may wait for the network. More get status 503.")
    ] = LIMITS.queue,
    max_mb: Annotated[float, typer.Option(min=0.001, max=1024, metavar="MB", help="Largest body of a request.")] = LIMITS.megabytes,
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, max=100, metavar="MP", help="Largest image, in millions of pixels.")
    ] = LIMITS.megapixels,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600, metavar="SECONDS", help="Time for the decoding of an image.")
    ] = LIMITS.seconds,
    json: JsonFlag = False,
) -> int | None:
    """Serve an exported model over HTTP: `POST /predict`, the Open Inference Protocol v2, and a page to drop images on.

    The address stands on stdout. Ctrl-C or SIGTERM stops the server after the accepted requests have their responses.

    \b
    cnnkit serve
    cnnkit serve --model export/model.onnx --port 0
    curl --data-binary @photo.jpg 127.0.0.1:8000/predict
    """
    from cnnkit.serve import require_packages

    require_packages()
    from cnnkit.serve.model import ServedModel, find_served
    from cnnkit.serve.server import serve

    target = find_served(model)
    console.say_model(target)
    served = ServedModel(target)

    def announce(address: str) -> None:
        if json:
            console.print_json({"address": address, "model": served.name, "file": str(served.path), "classes": list(served.classes)})
        else:
            console.say(console.out(), address)
            console.say(console.err(), f"serving {served.name} with {len(served.classes)} classes; Ctrl-C stops the server")
            console.say(console.err(), f"next: curl --data-binary @photo.jpg {shell_word(f'{address}/predict')}")
        console.results().flush()

    limits = ServeLimits(queue=queue, megabytes=max_mb, megapixels=max_megapixels, seconds=timeout)
    received = serve(served, limits, host=host, port=port, started=announce, signals=SIGNALS)
    return None if received is None else exit_status(received)
