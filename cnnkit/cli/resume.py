"""``cnnkit resume``: the continuation of a stopped run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnnkit.cli import console
from cnnkit.cli.options import JsonFlag
from cnnkit.cli.ranks import DevicesOption, device_for, joined, screen_of, start_ranks
from cnnkit.cli.train import describe, run_job


def command(
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Run directory. Default: the newest run.")] = None,
    data: Annotated[str | None, typer.Option("--data", "-d", metavar="SOURCE", help="Images of the run, if they have moved.")] = None,
    accept_versions: Annotated[
        bool, typer.Option("--accept-versions", help="Continue with other versions of torch and other packages than the recorded ones.")
    ] = False,
    devices: DevicesOption = None,
    json: JsonFlag = False,
) -> None:
    """Continue a stopped training exactly where it stopped.

    \b
    cnnkit resume
    cnnkit resume runs/001-custom-cnn
    cnnkit resume runs/001-custom-cnn --data moved/images
    """
    if devices:
        from cnnkit.api.training.resume import recorded_device

        start_ranks(devices, device_for(devices, recorded_device(run)))
    with joined(None) as ranks:
        from cnnkit.api.training.resume import resume as resume_job

        screen = screen_of(ranks)
        with console.progress(screen, "reading images") as update:
            job = resume_job(run, data=data, accept_versions=accept_versions, progress=update, ranks=ranks)
        assert job.run is not None  # noqa: S101 (a resumed job has its run)
        console.say(screen, f"continuing {job.run.path} {job.state.position}")
        describe(screen, job)
        run_job(job, screen, json=json)
