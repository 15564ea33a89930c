"""``cnnkit rerun``: the repetition of a finished training, compared with the first run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnnkit.cli import console
from cnnkit.cli.options import JsonFlag
from cnnkit.cli.train import describe, train_job
from cnnkit.errors import CheckFailedError, shell_line

if TYPE_CHECKING:
    from cnnkit.api.training.rerun import Difference

MAX_SHOWN = 8  # figures that differ


def command(
    run: Annotated[Path, typer.Argument(help="Run directory of a finished training.")],
    data: Annotated[str | None, typer.Option("--data", "-d", metavar="SOURCE", help="Images of the run, if they have moved.")] = None,
    json: JsonFlag = False,
) -> None:
    """Repeat a finished training in a new run, and compare both.

    Settings, images, seed and arithmetic are those of the run. Exit code 1 if the figures of a run with --deterministic differ.

    \b
    cnnkit rerun runs/001-custom-cnn
    """
    from cnnkit.api.training.rerun import compare_repetition, rerun
    from cnnkit.api.training.resume import run_at
    from cnnkit.run_dir import find_run

    screen, result = console.err(), console.out()
    first = run_at(find_run(run))
    with console.progress(screen, "reading images") as update:
        job = rerun(first.path, data=data, progress=update)
    describe(screen, job)
    again = train_job(job, screen)
    found = compare_repetition(first, again)
    if json:
        console.print_json(found.to_dict())
    else:
        for difference in found.differences[:MAX_SHOWN]:
            console.say(result, _line(difference))
        if len(found.differences) > MAX_SHOWN:
            console.say(result, f"and {len(found.differences) - MAX_SHOWN} more figures")
        console.say_end(result, found.verdict, f"cnnkit compare {shell_line([str(first.path), str(again.path)])}")
    if found.deterministic and not found.same_figures:
        raise CheckFailedError(
            f"{first.path} was trained with --deterministic, and {again.path} has other figures; "
            "such a run repeats on the same machine with the same versions only: compare both config.json"
        )


def _line(difference: Difference) -> str:
    first, again = ("none" if value is None else f"{value:.6g}" for value in (difference.first, difference.again))
    return f"epoch {difference.epoch}: {difference.figure} {first}, again {again}"
