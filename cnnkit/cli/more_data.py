"""``cnnkit more-data``: a forecast of the gain from more images, by class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnkit.cli import console
from cnnkit.cli.interruption import exit_code, interruptible
from cnnkit.cli.options import ConfigOption, JsonFlag, RecipeOption
from cnnkit.cli.setting_flags import with_options
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import SECTIONS, by_section
from cnnkit.errors import ConfigError, TrainingStoppedError, counted, shell_path, shell_word

if TYPE_CHECKING:
    from rich.console import Console

    from cnnkit.api.training.more_data import MoreData, PartTraining

UNUSED_SETTINGS = frozenset({"out", "log"})  # the settings of a run directory, which this command does not write
FLAGS = [name for section in SECTIONS.values() for name in section.model_fields if name not in UNUSED_SETTINGS]
RESUME_HINT = "run the command again with the same flags to continue"


@with_options(*FLAGS)
def command(
    given: dict[str, Any],
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    add: Annotated[int, typer.Option(min=1, metavar="N", help="Number of images that the forecast adds to each class.")] = 200,
    shares: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="Shares of the training images to train on: at least 3, of which the last is 1.",
            show_default="1/8,1/4,1/2,1",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Trainings per share, each with other images and other weights.")] = 1,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="Folder of learning-curve.png, .csv and .json. Finished trainings there are not repeated."
        ),
    ] = Path("more-data"),
    json: JsonFlag = False,
) -> None:
    """Forecast the gain of each class from more images, by trainings on parts of the images.

    Every training has as many updates as a training on all images; --budget is divided among the trainings. They are measured on val,
    and test stays closed.

    \b
    cnnkit more-data --data ./images --budget 20m
    """
    fractions = None if shares is None else tuple(_fraction(word, shares) for word in shares.split(","))
    settings = resolve(by_section(given), recipe=recipe, file=config)
    from cnnkit.api.training.more_data import SHARES, MoreData

    screen = console.err()
    with console.progress(screen, "images") as update:
        work = MoreData(settings, out, shares=fractions or SHARES, seeds=seeds, progress=update)
    _describe(screen, work)
    try:
        with interruptible(), console.progress(screen, "training") as update:
            for training in work.trainings(update):
                _print_training(screen, training)
    except KeyboardInterrupt as stop:
        console.say(screen, f"stopped; {_kept(work)}; {RESUME_HINT}")
        raise typer.Exit(exit_code(stop)) from None
    except TrainingStoppedError as error:
        raise TrainingStoppedError(f"{error}\n{_kept(work)}; {RESUME_HINT}") from None
    outlook = work.forecast(add)
    assert outlook is not None  # noqa: S101 (every share has a training)
    work.write(outlook)
    if json:
        console.print_json(work.to_dict(outlook))
        return
    from cnnkit.report.pictures.learning_curve import forecast_table

    result = console.out()
    result.print(forecast_table(outlook))
    result.print()
    console.say(result, outlook.verdict)
    console.say(result, "the forecast lets all classes grow in proportion; its band holds for images like these")
    console.say_end(result, f"files {out}", f"cnnkit train --data {shell_word(settings.data.data)}")


def _describe(screen: Console, work: MoreData) -> None:
    """Print the data, the model, the planned trainings and the finished ones."""
    job = work.base
    optim, counts = job.optim, job.counts
    length = (
        f"{optim.budget / len(work.planned):.0f} s each"
        if optim.budget
        else f"as many updates as {counted(optim.epochs, 'epoch')} of all images"
    )
    console.say_labelled(
        screen, "data", f"{job.config.data.data}: {counts['train']:,} training images, measured on {counts['val']:,} of val"
    )
    console.say_labelled(screen, "model", f"{job.header.arch}, {job.header.preprocessing.image_size} px; {job.runtime.describe()}")
    console.say_labelled(screen, "plan", f"{len(work.planned)} trainings, {length}; {optim.optimizer}, batches of {optim.batch_size}")
    console.say_notes(screen, job.notes)
    console.say_skipped(screen, job.dataset.bad, f"`cnnkit doctor {shell_path(job.config.data.data)}`")
    for training in work.finished:
        _print_training(screen, training, "finished before: ")


def _print_training(screen: Console, training: PartTraining, prefix: str = "") -> None:
    console.say_labelled(
        screen,
        f"{100 * training.share:.3g} %",
        f"{prefix}{counted(sum(training.images))}, seed {training.seed}: best epoch {training.best_epoch} of {training.epochs}, "
        f"val accuracy {100 * training.accuracy:.1f} %, {training.seconds:.0f} s",
    )


def _kept(work: MoreData) -> str:
    if not work.finished:
        return "no training has finished"
    return f"{len(work.finished)} of {len(work.planned)} trainings have finished; {work.out / 'learning-curve.csv'} keeps them"


def _fraction(word: str, given: str) -> float:
    """Return the number that ``1/8`` or ``0.125`` stands for; `given` is the whole value of ``--shares``."""
    numerator, slash, denominator = word.partition("/")
    try:
        return float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"`--shares` (={given}): {word!r} is not a share; type 1/8,1/4,1/2,1 or 0.125,0.25,0.5,1") from None
