"""``cnnkit benchmark``: the speed of training and prediction on this machine, and the change that helps most."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnkit.cli import console
from cnnkit.cli.options import JsonFlag, ModelOption, RecipeOption
from cnnkit.cli.setting_flags import with_options
from cnnkit.config.parsing import command_line, flag
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import SECTIONS, by_section
from cnnkit.errors import ConfigError, ModelFileError, shell_path
from cnnkit.files import check_writable, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from cnnkit.api.speed.benchmark import Bench
    from cnnkit.speed.values import Benchmark

# The settings that change the work of a training step or the source of its images; the other flags of train change no figure.
TRAINING_SETTINGS = (
    *("data", "classes", "exclude", "balance", "cache", "workers"),
    *SECTIONS["model"].model_fields,
    *("batch_size", "accumulate", "optimizer", "ema", "precision", "compile"),
    *SECTIONS["augment"].model_fields,
    "device",
)


@with_options(*TRAINING_SETTINGS)
def command(
    given: dict[str, Any],
    model: ModelOption = None,
    recipe: RecipeOption = None,
    seconds: Annotated[float, typer.Option(metavar="S", min=0.1, help="Seconds for each stage, after a warm-up.")] = 2.0,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE.json", help="Write the figures to a .json file.")] = None,
    json: JsonFlag = False,
) -> None:
    """Measure training and prediction on this machine, stage by stage, and name the change that helps most.

    --data alone measures a training on these images. --model, or no flag, measures an existing model.

    \b
    cnnkit benchmark
    cnnkit benchmark --data ./images --arch timm/resnet18
    """
    if out is not None:
        if out.suffix.lower() != ".json":
            raise ConfigError(f"--out {out}: the ending must be .json")
        check_writable(out.parent)
    measures_training = model is None and "data" in given
    if not measures_training:
        _refuse_training_flags(given, recipe, model)
    settings = resolve(by_section(given), recipe=recipe) if measures_training else None
    from cnnkit.api.speed.benchmark import Bench  # loads torch, so the flags are checked first

    screen = console.err()
    with console.spinner(screen, "loading") as update:
        bench = Bench(seconds, tell=update)
        found = bench.training(settings) if settings else _benchmark_model(bench, model, given.get("data"))
    _show(found, screen, out, json=json)
    if not json:
        following = f"cnnkit train{command_line(given, recipe)}" if settings else f"cnnkit predict photo.jpg{_model_flag(model)}"
        console.say_end(screen, "", following)


def _benchmark_model(bench: Bench, model: Path | None, data: str | None) -> Benchmark:
    """Benchmark `model`, by default the newest finished run."""
    from cnnkit.api.inference.target import find_target

    try:
        target = find_target(model)
    except ModelFileError as error:
        if model is not None:
            raise
        raise ModelFileError(f"{error}; to measure a training: cnnkit benchmark --data FOLDER") from None
    console.say_model(target)
    return bench.model(target, data=data)


def _model_flag(model: Path | None) -> str:
    return "" if model is None else f" --model {shell_path(model)}"


def _refuse_training_flags(given: dict[str, Any], recipe: str | None, model: Path | None) -> None:
    """Raise `ConfigError` if a flag of a training is given, but a model is to be measured."""
    typed = [flag(name) for name in given if name != "data"] + (["--recipe"] if recipe else [])
    if not typed:
        return
    if model is not None:
        raise ConfigError(f"{typed[0]} cannot change the trained model --model {model}; leave out --model to measure a training")
    raise ConfigError(f"{typed[0]} needs --data, which makes the command measure a training: add --data FOLDER, or --data digits")


def _show(found: Benchmark, screen: Console, out: Path | None, *, json: bool) -> None:
    from cnnkit.report.terminal.benchmark import benchmark_document, benchmark_summary

    document = benchmark_document(found)
    console.say_notes(screen, found.notes)
    if out is not None:
        write_json(out, document)
        console.say(screen, f"figures in {out}")
    if json:
        console.print_json(document)
    else:
        console.out().print(benchmark_summary(found))
