"""Training on several ranks from the command line: their start with ``--devices``, and the one message of the first failure."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from cnnkit.cli import console
from cnnkit.cli.interruption import SIGNALS, exit_code, exit_status, interruptible
from cnnkit.cli.usage import is_refusal
from cnnkit.errors import CnnkitError, ConfigError, RankLostError, TrainingStoppedError, is_fault, listed
from cnnkit.report.terminal.console import EscapingConsole

if TYPE_CHECKING:
    from cnnkit.engine.ranks import Ranks

COMMANDS = ("train", "resume", "rerun")  # that several ranks may run together
LAUNCHER_VARIABLES = frozenset({"WORLD_SIZE", "SLURM_STEP_ID"})  # of torchrun and PyTorchJob, and of srun
FIRST_RANK_SECONDS = 1.0  # that the other ranks leave to rank 0 for the message of an error that all of them meet
INTERRUPTIONS = frozenset(map(exit_status, SIGNALS))

DevicesOption = Annotated[
    str | None,
    typer.Option(
        "--devices",
        metavar="N|0,1|cpu:N",
        help="Train with N processes (ranks) together, one per GPU; 0,1 names GPUs, cpu:2 takes the CPU. Default: one process.",
        rich_help_panel="Run",
    ),
]


def check_command(command: str | None) -> None:
    """Raise `ConfigError` if torchrun has started several ranks for a command that trains nothing together; keep torch's stacks silent.

    torch's C++ code prints a stack for each connection that breaks, if this is not set before torch is loaded. cnnkit names the rank.
    """
    if not LAUNCHER_VARIABLES.isdisjoint(os.environ):
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    world = os.environ.get("WORLD_SIZE", "1")
    if command is not None and command not in COMMANDS and "TORCHELASTIC_RUN_ID" in os.environ and world != "1":
        raise ConfigError(
            f"cnnkit {command}: torchrun has started {world} processes, which only share the work of {listed(COMMANDS)}; use one process"
        )


def device_for(devices: str | None, device: str) -> str:
    """Return the device of a training with ``--devices`` and ``--device``; raises `ConfigError` if they contradict each other."""
    from cnnkit.engine.launcher import Devices

    kind = Devices.parse(devices).kind if devices else ""
    if kind and device not in {"auto", kind}:
        raise ConfigError(f"--devices {devices}: these are ranks on {kind}, but --device is {device}; leave one of them out")
    return kind or device


def start_ranks(devices: str | None, device: str) -> None:
    """Start the ranks that ``--devices`` names, wait for them and raise `typer.Exit`; return if this process is to train itself."""
    if not devices:
        return
    from cnnkit.engine.launcher import REPORT_VARIABLE, Devices, launch
    from cnnkit.engine.rank_environment import rank_environment

    if REPORT_VARIABLE in os.environ:  # this process is a rank that `launch` has started
        return
    environment = rank_environment()
    if environment is not None and environment.world > 1:
        raise ConfigError(
            f"--devices {devices}: this process is rank {environment.rank} of {environment.world} already, "
            "which torchrun or srun has started; leave --devices out"
        )
    wanted = Devices.parse(devices)
    wanted.check(device)
    if wanted.count == 1 and not wanted.gpus:
        return
    end = launch(sys.argv[1:], wanted)
    if end.cause:
        console.say_labelled(console.err(), "error", end.cause, "bold red")
    raise typer.Exit(end.code)


@contextmanager
def joined(device: str | None) -> Generator[Ranks]:
    """Join the ranks that a launcher has started, for the body; without a launcher the body runs in one process.

    `device` is that of the training; None, of a run that only rank 0 may read, stands for a CUDA GPU or else the CPU.
    The rank that fails first prints its error, and the others end silently with the same exit code.
    """
    from cnnkit.engine.rank_environment import rank_environment

    environment = rank_environment()
    if environment is None or environment.world == 1:
        from cnnkit.engine.ranks import Ranks

        yield Ranks(is_restarted=environment is not None and environment.restarts > 0)
        return
    from cnnkit.engine.joining import join, leave
    from cnnkit.engine.ranks import ignore_termination
    from cnnkit.engine.runtime import choose_device, usable_devices

    chosen = choose_device(device or ("cuda" if usable_devices()["cuda"] else "cpu"))
    ranks, watch = join(environment, chosen, console.say_error)
    failed = True
    try:
        with interruptible():  # also while the images are read, so that the other ranks learn of it
            yield ranks
            ranks.totals([0.0])  # every rank has ended its work, so that none takes the end of another for a failure
        failed = False
    except BaseException as error:  # noqa: BLE001 (raised again, or ended with its exit code)
        ignore_termination()
        _end(ranks, error)
    finally:
        leave(watch, ranks, failed=failed)


def screen_of(ranks: Ranks) -> Console:
    """Return the console of progress and notes; that of a rank above 0 prints nothing."""
    return console.err() if ranks.is_first else EscapingConsole(file=sys.stderr, quiet=True, force_terminal=False)


def _end(ranks: Ranks, error: BaseException) -> NoReturn:
    """Raise `error` if it is the first failure of the ranks, else `typer.Exit` with the exit code of the first failure."""
    from cnnkit.engine.ranks import Failure

    board, code = ranks.board, _code(error)
    assert board is not None  # noqa: S101 (there are several ranks)
    if isinstance(error, RankLostError) and error.reported:
        raise typer.Exit(code) from None
    first = Failure(min(ranks.rank, 1), code)  # where the process that holds the notices has ended, rank 1 speaks
    with suppress(RuntimeError):
        end = time.monotonic() + (0.0 if ranks.is_first else FIRST_RANK_SECONDS)
        while (known := board.failure()) is None and time.monotonic() < end:
            time.sleep(FIRST_RANK_SECONDS / 20)
        first = known or board.claim(Failure(ranks.rank, code))
    if first.rank != ranks.rank:
        raise typer.Exit(first.code) from None
    if code in INTERRUPTIONS:
        raise typer.Exit(code) from None
    from cnnkit.engine.launcher import report

    report("code", code)
    raise error


def _code(error: BaseException) -> int:
    """Return the exit code of a command that `error` ends."""
    if isinstance(error, CnnkitError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return exit_code(error)
    if isinstance(error, typer.Exit):
        return error.exit_code
    if is_fault(error):
        assert isinstance(error, Exception)  # noqa: S101 (of the system)
        return ConfigError.exit_code if is_refusal(error) else TrainingStoppedError.exit_code
    return 1
