"""The command line: one file per command, one error boundary."""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
import traceback
from contextlib import suppress
from importlib import metadata
from typing import Annotated

import typer

from cnnkit.cli import console
from cnnkit.cli.archs import app as archs
from cnnkit.cli.benchmark import benchmark
from cnnkit.cli.cache import cache
from cnnkit.cli.compare import compare
from cnnkit.cli.doctor import doctor
from cnnkit.cli.eval import evaluate
from cnnkit.cli.explain import explain
from cnnkit.cli.export import export
from cnnkit.cli.info import info
from cnnkit.cli.lr_find import lr_find
from cnnkit.cli.more_data import more_data
from cnnkit.cli.predict import predict
from cnnkit.cli.preview import preview
from cnnkit.cli.report import report
from cnnkit.cli.resume import resume
from cnnkit.cli.runs import runs
from cnnkit.cli.split import split
from cnnkit.cli.train import train
from cnnkit.errors import CnnkitError

app = typer.Typer(
    help="Turn a folder of images into a classifier one can trust.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train)
app.command("resume")(resume)
app.command("eval")(evaluate)
app.command("report")(report)
app.command("predict")(predict)
app.command("explain")(explain)
app.command("export")(export)
app.command("compare")(compare)
app.add_typer(archs, name="archs")
app.command("lr-find")(lr_find)
app.command("more-data")(more_data)
app.command("benchmark")(benchmark)
app.command("runs")(runs)
app.command("info")(info)
app.command("doctor")(doctor)
app.command("split")(split)
app.command("preview")(preview)
app.command("cache")(cache)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cnnkit {metadata.version('cnnkit')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """Turn a folder of images into a classifier one can trust."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name) and return its exit code.

    A `CnnkitError` becomes its message on stderr and its exit code; with ``--debug`` its traceback comes first.
    """
    # Threads that wait actively for work steal the time of those that have some: up to 3.6 times on a busy machine
    # (measured). OpenMP reads this when torch is loaded, so it is set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Every 700 new objects Python looks for circles among them, and ever again among all that torch has made when it was loaded
    # (measured: a quarter of the time in which the names of 60,000 files become samples).
    gc.set_threshold(100_000, 50, 50)
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):  # a pipe that is not UTF-8 has no arrows; better a question mark than a crash
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app([argument for argument in arguments if argument != "--debug"], prog_name="cnnkit")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except CnnkitError as error:
        if debug:
            traceback.print_exc()
        console.labelled(console.err(), "error", str(error), "bold red")
        return error.exit_code
    return 0


def entry() -> None:
    """Run as the installed command, and end the process without the clean-up of the libraries.

    When Python ends, torch's libraries for CUDA tidy up, used or not, and every object is freed one by one (measured after a training on
    60,000 images: 0.7 s and another 0.1 GB of memory). What was registered to be done at the end is done before.
    """
    code = 1  # of an error that is not ours, whose traceback Python shows

    def leave() -> None:
        with suppress(OSError, ValueError):  # a pipe that nobody reads any more, or a stream that is closed
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    atexit.register(leave)  # the first to be registered is the last to run
    code = main()
    sys.exit(code)
