"""``cnnkit rerun``: the repetition of a finished training, compared with the first run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnnkit.cli import console
from cnnkit.cli.options import JsonFlag
from cnnkit.cli.ranks import DevicesOption, device_for, joined, screen_of, start_ranks
from cnnkit.cli.train import describe, train_job
from cnnkit.errors import CheckFailedError, shell_path

if TYPE_CHECKING:
    from cnnkit.api.training.rerun import Difference, Repetition

MAX_SHOWN = 8  # figures that differ


def command(
    run: Annotated[Path, typer.Argument(help="Run directory of a finished training.")],
    data: Annotated[str | None, typer.Option("--data", "-d", metavar="SOURCE", help="Images of the run, if they have moved.")] = None,
    devices: DevicesOption = None,
    json: JsonFlag = False,
) -> None:
    """Repeat a finished training in a new run, and compare both.

    Settings, images, seed and arithmetic are those of the run. A run of several ranks is repeated by as many with --devices. Exit code 1
    if the figures of a run with --deterministic differ.

    \b
    cnnkit rerun runs/001-custom-cnn
    """
    from cnnkit.api.training.rerun import compare_repetition, rerun
    from cnnkit.api.training.resume import recorded_device, run_at
    from cnnkit.run_dir import find_run

    if devices:
        start_ranks(devices, device_for(devices, recorded_device(run)))
    with joined(None) as ranks:
        screen = screen_of(ranks)
        with console.progress(screen, "reading images") as update:
            job = rerun(run, data=data, progress=update, ranks=ranks)
        describe(screen, job)
        again = train_job(job, screen)
        if ranks.is_first:
            _report(compare_repetition(run_at(find_run(run)), again), json=json)


def _report(found: Repetition, *, json: bool) -> None:
    """Print the comparison; raise `CheckFailedError` if the figures of a run with ``--deterministic`` differ."""
    first, again, result = found.first.path, found.again.path, console.out()
    if json:
        console.print_json(found.to_dict())
    else:
        for difference in found.differences[:MAX_SHOWN]:
            console.say(result, _line(difference))
        if len(found.differences) > MAX_SHOWN:
            console.say(result, f"and {len(found.differences) - MAX_SHOWN} more figures")
        console.say_end(result, found.verdict, f"cnnkit compare {shell_path(first)} {shell_path(again)}")
    if found.deterministic and not found.same_figures:
        raise CheckFailedError(
            f"{first} was trained with --deterministic, and {again} has other figures; "
            "such a run repeats on the same machine with the same versions only: compare both config.json"
        )


def _line(difference: Difference) -> str:
    first, again = ("none" if value is None else f"{value:.6g}" for value in (difference.first, difference.again))
    return f"epoch {difference.epoch}: {difference.figure} {first}, again {again}"
