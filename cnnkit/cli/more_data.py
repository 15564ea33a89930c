"""``cnnkit more-data``: whether more images would help, and which class most."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnkit.cli import console
from cnnkit.cli.interruption import exit_code, terminable
from cnnkit.cli.options import ConfigOption, JsonFlag, RecipeOption, with_options
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import SECTIONS, by_section
from cnnkit.errors import ConfigError, TrainingStoppedError

if TYPE_CHECKING:
    from rich.console import Console

    from cnnkit.api.training.more_data import MoreData, PartTraining

IDLE = frozenset({"out", "log"})  # where runs go and who is told of them: none is written
FLAGS = [name for section in SECTIONS.values() for name in section.model_fields if name not in IDLE]
ON = "again with the same flags, it goes on with the rest"


@with_options(*FLAGS)
def command(
    given: dict[str, Any],
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    add: Annotated[int, typer.Option(min=1, metavar="N", help="Number of images that might be added to a class.")] = 200,
    shares: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C", help="Parts of the training images to train on. At least 3, the last is 1.", show_default="1/8,1/4,1/2,1"
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Trainings per part, each with other images and another start.")] = 1,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="Folder of learning-curve.png, .csv and .json. A finished training there is not repeated."
        ),
    ] = Path("more-data"),
    json: JsonFlag = False,
) -> None:
    """Train on parts of the images and extrapolate: which class would gain most from more images.

    Every training has as many updates as one on all images (--budget is divided among them). Val measures it, test stays closed.
    """
    parts = None if shares is None else tuple(_fraction(word, shares) for word in shares.split(","))
    settings = resolve(by_section(given), recipe=recipe, file=config)
    from cnnkit.api.training.more_data import SHARES, MoreData

    screen = console.err()
    with console.progress(screen, "images") as update:
        work = MoreData(settings, out, shares=parts or SHARES, seeds=seeds, progress=update)
    _describe(screen, work)
    try:
        with terminable(), console.progress(screen, "training") as update:
            for training in work.trainings(update):
                _tell(screen, training)
    except KeyboardInterrupt as stop:
        console.say(screen, f"stopped; {_kept(work)}; {ON}")
        raise typer.Exit(exit_code(stop)) from None
    except TrainingStoppedError as error:
        raise TrainingStoppedError(f"{error}\n{_kept(work)}; {ON}") from None
    outlook = work.forecast(add)
    assert outlook is not None  # noqa: S101 (every size is trained)
    work.write(outlook)
    if json:
        console.print_json(work.to_dict(outlook))
        return
    from cnnkit.report.pictures.learning_curve import forecast_table

    result = console.out()
    result.print(forecast_table(outlook))
    console.say(result, f"\n{outlook.verdict}")
    console.say(result, "a class is thought to grow while the others grow in proportion; the band holds for images like these")
    console.say(result, f"files {out}")


def _describe(screen: Console, work: MoreData) -> None:
    """Say what will be trained, and what is there already."""
    job = work.base
    optim, counts = job.optim, job.counts
    length = f"{optim.budget / len(work.planned):.0f} s each" if optim.budget else f"as many updates as {optim.epochs} epochs of all images"
    console.labelled(screen, "data", f"{job.config.data.data}: {counts['train']:,} training images, measured on {counts['val']:,} of val")
    console.labelled(screen, "model", f"{job.header.arch}, {job.header.preprocessing.image_size} px; {job.runtime.describe()}")
    console.labelled(screen, "plan", f"{len(work.planned)} trainings, {length}; {optim.optimizer}, batches of {optim.batch_size}")
    for text in job.notes:
        console.labelled(screen, "note", text, "yellow")
    console.say_skipped(screen, job.dataset.bad, f"`cnnkit doctor {job.config.data.data}`")
    for training in work.finished:
        _tell(screen, training, "finished before: ")


def _tell(screen: Console, training: PartTraining, before: str = "") -> None:
    console.labelled(
        screen,
        f"{100 * training.share:.3g} %",
        f"{before}{sum(training.images):,} images, seed {training.seed}: best epoch {training.best_epoch} of {training.epochs}, "
        f"val accuracy {100 * training.accuracy:.1f} %, {training.seconds:.0f} s",
    )


def _kept(work: MoreData) -> str:
    if not work.finished:
        return "no training was finished"
    return f"{len(work.finished)} of {len(work.planned)} trainings are finished and kept in {work.out / 'learning-curve.csv'}"


def _fraction(word: str, given: str) -> float:
    """Read ``1/8`` or ``0.125``."""
    top, slash, bottom = word.partition("/")
    try:
        return float(top) / float(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"`--shares` (={given}): {word!r} is no share; give such as 1/8,1/4,1/2,1 or 0.125,0.25,0.5,1") from None
