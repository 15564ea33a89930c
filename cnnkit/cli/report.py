"""``cnnkit report``: one self-contained page on a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cnnkit.cli import console
from cnnkit.cli.options import JsonFlag, SplitOption
from cnnkit.cli.setting_flags import device_of, with_options
from cnnkit.errors import ConfigError, shell_path


@with_options("device")
def command(
    given: dict[str, Any],
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]...", help="Run directory, or several with --compare. Default: the newest finished run."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Write one page on several runs, with the images that one run fixes and another breaks.")
    ] = False,
    split: SplitOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE.html",
            help="Page to write. Default: report.html of the run, or comparison.html of the first run with --compare.",
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Write one self-contained HTML page on a run: data, curves, metrics, mistakes, how to repeat it.

    A run without an evaluation is evaluated first, which opens its test split. The page loads nothing from the network.

    \b
    cnnkit report
    cnnkit report --compare runs/001-custom-cnn runs/002-residual-cnn
    """
    if out is not None and out.suffix.lower() not in {".html", ".htm"}:
        raise ConfigError(f"--out {out}: the ending must be .html")
    _check_runs(runs or [], several=compare)
    screen = console.err()
    with console.progress(screen, "reading images") as update:
        if compare:
            from cnnkit.api.pages.comparison import report_comparison

            written = report_comparison(runs or [], split=split, out=out, device=device_of(given), progress=update)
        else:
            from cnnkit.api.pages.run import report as write_report

            written = write_report(runs[0] if runs else None, split=split, out=out, device=device_of(given), progress=update)
            console.say_model(written.target)
    console.say_notes(screen, written.notes)
    if json:
        console.print_json(written.to_dict())
        return
    console.say_end(
        console.out(),
        f"page {written.path} ({written.bytes / 1e6:.1f} MB, {written.pictures} pictures, loads nothing)",
        "cnnkit runs" if compare else f"cnnkit export --onnx{f' --model {shell_path(runs[0])}' if runs else ''}",
    )


def _check_runs(runs: list[Path], *, several: bool) -> None:
    """Raise `ConfigError` unless a comparison has at least two runs and another page at most one."""
    if several and len(runs) < 2:  # noqa: PLR2004 (a comparison has at least two runs)
        raise ConfigError("--compare takes two or more runs: cnnkit report --compare RUN RUN; cnnkit runs lists them")
    if not several and len(runs) > 1:
        named = " ".join(map(str, runs))
        raise ConfigError(f"{len(runs)} runs, but a page shows one run; to compare them, type: cnnkit report --compare {named}")
