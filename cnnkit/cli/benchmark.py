"""``cnnkit benchmark``: how fast, and what to change."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn

from cnnkit.cli import console
from cnnkit.cli.options import JsonFlag, ModelOption, RecipeOption, with_options
from cnnkit.config.parsing import flag
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import SECTIONS, by_section
from cnnkit.errors import ConfigError, ModelFileError
from cnnkit.files import check_writable, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from cnnkit.api.speed.benchmark import Bench
    from cnnkit.speed.values import Benchmark

# What decides how much work a training step is, and from where its images come; the rest of train's flags changes no figure.
SHAPING = (
    *("data", "classes", "balance", "cache", "workers"),
    *SECTIONS["model"].model_fields,
    *("batch_size", "accumulate", "optimizer", "ema", "precision", "compile"),
    *SECTIONS["augment"].model_fields,
    "device",
)


@with_options(*SHAPING)
def command(
    given: dict[str, Any],
    model: ModelOption = None,
    recipe: RecipeOption = None,
    seconds: Annotated[float, typer.Option(metavar="S", min=0.1, help="Seconds for each stage, after a warm-up.")] = 2.0,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE.json", help="Write the figures to a .json file.")] = None,
    json: JsonFlag = False,
) -> None:
    """Measure training and prediction on this machine, stage by stage, and name the best change to make.

    Without --data it measures a model that exists, with --data a training that would begin.
    """
    if out is not None:
        if out.suffix.lower() != ".json":
            raise ConfigError(f"--out {out}: the ending must be .json")
        check_writable(out.parent)
    of_training = model is None and "data" in given
    if not of_training:
        _refuse_training_flags(given, recipe, model)
    settings = resolve(by_section(given), recipe=recipe) if of_training else None
    from cnnkit.api.speed.benchmark import Bench  # torch is loaded here, after the flags were checked

    screen = console.err()
    with _telling(screen) as tell:
        bench = Bench(seconds, tell=tell)
        found = bench.training(settings) if settings else _of_model(bench, model, given.get("data"))
    _show(found, screen, out, json=json)


def _of_model(bench: Bench, model: Path | None, data: str | None) -> Benchmark:
    from cnnkit.api.inference.target import find_target

    try:
        target = find_target(model)
    except ModelFileError as error:
        if model is not None:
            raise
        raise ModelFileError(f"{error}; to measure a training that is still to come: cnnkit benchmark --data FOLDER") from None
    console.say_model(target)
    return bench.model(target, data=data)


def _refuse_training_flags(given: dict[str, Any], recipe: str | None, model: Path | None) -> None:
    """Refuse flags that shape a training where a model is measured that exists already."""
    typed = [flag(name) for name in given if name != "data"] + (["--recipe"] if recipe else [])
    if not typed:
        return
    if model is not None:
        raise ConfigError(f"{typed[0]}: --model {model} is a model already, measured as it is; leave --model out to measure a training")
    raise ConfigError(f"{typed[0]}: it shapes a training, and of which images is not said: add --data FOLDER, or --data digits")


def _show(found: Benchmark, screen: Console, out: Path | None, *, json: bool) -> None:
    from cnnkit.report.terminal.benchmark import benchmark_document, benchmark_summary

    document = benchmark_document(found)
    for note in found.notes:
        console.labelled(screen, "note", note, "yellow")
    if out is not None:
        write_json(out, document)
        console.say(screen, f"figures in {out}")
    if json:
        console.print_json(document)
    else:
        console.out().print(benchmark_summary(found))


@contextmanager
def _telling(screen: Console) -> Generator[Callable[[str], None]]:
    """Show on a terminal what is being done; rarely redrawn, as the processors are wanted elsewhere."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
    quiet = not screen.is_terminal or screen.is_dumb_terminal
    with Progress(*columns, console=screen, transient=True, disable=quiet, refresh_per_second=2) as bar:
        task = bar.add_task("loading", total=None)

        def tell(text: str) -> None:
            bar.update(task, description=text)

        yield tell
