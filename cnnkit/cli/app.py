"""The command line: the list of commands, and the one boundary at which errors become exit codes."""

from __future__ import annotations

import atexit
import io
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module, metadata
from typing import Annotated, Any

import typer

from cnnkit.cli import console
from cnnkit.cli.help import CONTEXT, HelpCommand, HelpGroup
from cnnkit.cli.interruption import exit_code, interruption_of
from cnnkit.cli.ranks import check_command
from cnnkit.cli.usage import fault_message, is_refusal, print_usage_error
from cnnkit.errors import CnnkitError, hide_passwords, is_fault

# The commands by panel, in the order of the help; each is the function `command` of cnnkit/cli/NAME.py.
COMMANDS = {
    "Train": ("train", "resume", "rerun", "lr-find", "tune", "more-data"),
    "Evaluate": ("eval", "report", "compare", "explain"),
    "Use": ("predict", "export", "serve", "benchmark"),
    "Images": ("doctor", "split", "preview", "cache"),
    "Runs and architectures": ("runs", "info", "archs", "plugins"),
}
# Exit codes of the contract: refused before the work, stopped in the middle, and 128 + SIGPIPE as of a shell's own commands.
REFUSED, STOPPED, READER_GONE = 2, 3, 141
USAGE_ERROR: type[Exception] = next(  # the class of typer's own copy of click or of the installed click
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException" and issubclass(kind, Exception)
)


def build_app(only: str | None = None) -> typer.Typer:
    """Return the command line with every command of `COMMANDS`, or with the one command `only`, which loads faster."""
    app = typer.Typer(
        cls=HelpGroup,
        help="Turn a folder of images into a classifier that you can trust.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=CONTEXT,
    )
    app.callback()(_options)
    for panel, names in COMMANDS.items():
        for name in names if only is None else {only}.intersection(names):
            command = import_module(f"cnnkit.cli.{name.replace('-', '_')}").command
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=name, rich_help_panel=panel, context_settings=CONTEXT)
            else:
                app.command(name, cls=HelpCommand, rich_help_panel=panel, context_settings=CONTEXT)(command)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cnnkit {metadata.version('cnnkit')}")
        raise typer.Exit


def _options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error. The flag may follow any command.")] = False,
) -> None:
    """Turn a folder of images into a classifier that you can trust."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name) and return its exit code.

    A `CnnkitError`, a usage error, an error of the system and a lack of memory become a message on stderr and an exit code; with
    ``--debug`` the traceback comes first.
    """
    # Threads that wait actively take time from the threads that work, above all on a busy machine. OpenMP reads this variable when
    # torch is loaded, so the variable must be set here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):  # an encoding other than UTF-8 has no arrows; they become question marks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = _run(arguments, debug=debug)
        sys.stdout.flush()  # a full disk behind stdout may refuse only now
    except BrokenPipeError as error:
        return exit_code(stop) if (stop := interruption_of(error)) else READER_GONE
    except Exception as error:
        if isinstance(error, OSError) and (stop := interruption_of(error)):
            return exit_code(stop)
        if not is_fault(error):
            raise
        if debug:
            _print_traceback()
        with suppress(OSError):  # nobody reads stderr
            console.say_error(fault_message(error))
        return REFUSED if is_refusal(error) else STOPPED
    return code


def _run(arguments: Sequence[str], *, debug: bool) -> int:
    """Run the command line `arguments` and return its exit code; an error of the user or of the data becomes a message."""
    try:
        words = [argument for argument in arguments if argument != "--debug"]
        only = next((word for word in words[:1] if any(word in names for names in COMMANDS.values())), None)
        check_command(only)
        code: Any = build_app(only)(words, prog_name="cnnkit", standalone_mode=False)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # click and rich end with 1 when the reader of stdout has gone
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except USAGE_ERROR as error:
        return print_usage_error(error, arguments)
    except CnnkitError as error:
        if debug:
            _print_traceback()
        console.say_error(str(error))
        return error.exit_code
    return code if isinstance(code, int) else 0


def _print_traceback() -> None:
    """Print the traceback of the current error on stderr, without passwords."""
    sys.stderr.write(hide_passwords(traceback.format_exc()))


def entry() -> None:
    """Run as the installed command, and end the process without the clean-up of the libraries.

    At exit, Python would free every object of torch and its CUDA libraries one by one, which takes time and memory. All other functions
    registered with `atexit` run first. So does that of multiprocessing, which removes its semaphores, if it was imported even earlier.
    """
    code = 1  # the exit code of an unexpected error, whose traceback Python prints

    def leave() -> None:
        if known := sys.modules.get("multiprocessing.util"):
            known._exit_function()  # noqa: SLF001 (has no public name, and does its work once)
        with suppress(OSError, ValueError):  # a pipe without a reader, or a closed stream
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    atexit.register(leave)  # the function that is registered first runs last
    code = main()
    sys.exit(code)
