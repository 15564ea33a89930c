"""``cnnkit lr-find``: a learning rate for these images and this network, by a range test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnkit.cli import console
from cnnkit.cli.options import ConfigOption, JsonFlag, RecipeOption
from cnnkit.cli.setting_flags import with_options
from cnnkit.config.parsing import command_line
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import SECTIONS, by_section
from cnnkit.errors import ConfigError, shell_path
from cnnkit.files import write_csv

if TYPE_CHECKING:
    from rich.console import Console

    from cnnkit.api.training.lr_find import LrFinding

SUFFIX = ".png"
COLUMNS = ("rate", "loss", "smoothed")
# The settings without effect on a range test: the length of the training, its schedule, and the folder of its results.
UNUSED_SETTINGS = frozenset({"epochs", "budget", "lr", "schedule", "warmup_epochs", "freeze_epochs", "ema", "out", "log"})
FLAGS = [name for key, section in SECTIONS.items() if key != "stop" for name in section.model_fields if name not in UNUSED_SETTINGS]


@with_options(*FLAGS)
def command(
    given: dict[str, Any],
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Number of learning rates to try, one update each. At least 20.", show_default="100")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.png", help="Picture to write. A .csv file beside it gets the numbers.")
    ] = Path("lr-find.png"),
    json: JsonFlag = False,
) -> None:
    """Suggest a learning rate: try growing rates on a copy of the network, in about a hundred steps.

    If the loss never falls there is no suggestion, and the exit code is 2.

    \b
    cnnkit lr-find --data ./images
    cnnkit lr-find --data ./images --arch residual-cnn --batch-size 64
    """
    if out.suffix.lower() != SUFFIX:
        raise ConfigError(f"--out {out}: the ending must be {SUFFIX}")
    settings = resolve(by_section(given), recipe=recipe, file=config)
    from cnnkit.api.training.lr_find import find_lr
    from cnnkit.data.sources.folder import check_outside

    check_outside(out, settings.data.data)
    screen = console.err()
    with console.progress(screen, "images") as update:
        finding = find_lr(settings, steps=steps, progress=update)
    _describe(screen, finding, settings.data.data)
    table = out.with_suffix(".csv")
    _write(finding, settings.data.data, out, table)
    if json:
        console.print_json(_document(finding, out, table))
    test = finding.test
    if test.suggestion is None:
        raise ConfigError(_no_suggestion(finding, settings.data.data, table))
    if json:
        return
    result = console.out()
    console.say(result, f"suggested learning rate {test.suggestion:g} (tried {test.rates[0]:g} to {test.rates[-1]:.2g}: {out}, {table})")
    # the suggestion holds for the batch size that `auto` chose
    flags = given | {"batch_size": finding.optim.batch_size} if settings.optim.batch_size == "auto" else given
    console.say_end(result, "", f"cnnkit train{command_line(flags, recipe, config)} --lr {test.suggestion:g}")


def _describe(screen: Console, finding: LrFinding, data: str) -> None:
    """Print the data, the model and the recipe of the test."""
    optim = finding.optim
    console.say_labelled(screen, "data", f"{data}: {finding.images:,} images per pass")
    console.say_labelled(screen, "model", f"{finding.arch}, {finding.parameters:,} parameters, {finding.image_size} px; {finding.runtime}")
    console.say_labelled(screen, "recipe", f"{optim.optimizer}, batches of {optim.batch_size}")
    console.say_notes(screen, finding.notes)
    console.say_skipped(screen, finding.bad, f"`cnnkit doctor {shell_path(data)}`")


def _write(finding: LrFinding, data: str, picture: Path, table: Path) -> None:
    """Write the numbers of the test to `table` and, if there are any, their plot to `picture`."""
    test = finding.test
    rows = zip(test.rates, test.losses, test.smoothed, strict=True)
    write_csv(table, COLUMNS, (dict(zip(COLUMNS, row, strict=True)) for row in rows))
    if test.rates:
        from cnnkit.report.pictures.lr import plot_range_test

        title = f"{finding.arch} on {Path(data).name}, {finding.optim.optimizer}, batches of {finding.optim.batch_size}"
        plot_range_test(
            test.rates, test.losses, test.smoothed, picture, suggestion=test.suggestion, diverged_at=test.diverged_at, title=title
        )


def _document(finding: LrFinding, picture: Path, table: Path) -> dict[str, object]:
    test = finding.test
    return {
        "suggestion": test.suggestion,
        "diverged_at": test.diverged_at,
        "arch": finding.arch,
        "optimizer": finding.optim.optimizer,
        "batch_size": finding.optim.batch_size,
        "rates": list(test.rates),
        "losses": list(test.losses),
        "smoothed": list(test.smoothed),
        "files": {"picture": str(picture) if test.rates else None, "table": str(table)},
        "notes": list(finding.notes),
    }


def _no_suggestion(finding: LrFinding, data: str, table: Path) -> str:
    test = finding.test
    if not test.rates:
        return (
            f"no learning rate to suggest: {test.no_suggestion_reason} ({finding.arch}, {finding.runtime}); "
            "try --precision fp32, or other weights if you gave --weights"
        )
    return (
        f"no learning rate to suggest: {test.no_suggestion_reason} (see {table}); check the labels: cnnkit doctor {shell_path(data)}; "
        "or try a larger --batch-size or more --steps"
    )
