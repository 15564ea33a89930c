"""``cnnkit tune``: a search for settings by trials, on one machine or several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnkit.cli import console
from cnnkit.cli.interruption import exit_code, interruptible
from cnnkit.cli.options import ConfigOption, JsonFlag, RecipeOption
from cnnkit.cli.setting_flags import with_options
from cnnkit.config.parsing import command_line
from cnnkit.config.search import DEFAULT_SAMPLER, DEFAULT_TRIALS, SAMPLERS, Sampler, budget_seconds, check_search
from cnnkit.config.settings import SECTIONS
from cnnkit.errors import CheckFailedError, TrainingStoppedError, counted, listed, shell_word

if TYPE_CHECKING:
    from rich.console import Console

    from cnnkit.api.tuning.results import SearchResult
    from cnnkit.api.tuning.search import Search
    from cnnkit.api.tuning.space import Layers
    from cnnkit.tuning.space import SearchSpace

UNUSED_SETTINGS = frozenset({"budget"})  # here it limits the search
FLAGS = [name for section in SECTIONS.values() for name in section.model_fields if name not in UNUSED_SETTINGS]
PANEL = "Search"
Flag = typer.Option


@with_options(*FLAGS)
def command(
    given: dict[str, Any],
    search: Annotated[
        list[str] | None,
        Flag(
            "--search",
            "-s",
            metavar="NAME=RANGE",
            help="Setting or architecture option to search: lr=1e-4..1e-2:log, dropout=0..0.5, width=32,64,128, or lr alone for its "
            "default range. Repeat it. Default: a space that suits the recipe.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    space: Annotated[
        Path | None,
        Flag(metavar="FILE", help='TOML file of the space: lines such as lr = "1e-4..1e-2:log", width = [32, 64].', rich_help_panel=PANEL),
    ] = None,
    trials: Annotated[
        int, Flag("--trials", "-n", min=1, metavar="N", help="Number of trials of all workers together.", rich_help_panel=PANEL)
    ] = DEFAULT_TRIALS,
    budget: Annotated[
        str | None,
        Flag(
            metavar="TIME",
            help="Time after which this process begins no trial, such as 90s, 30m or 2h. The trial in progress goes on to its end. "
            "Default: no limit.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    name: Annotated[
        str | None,
        Flag(
            metavar="NAME",
            help="Name of the search. The same command continues it. Default: architecture and data, such as custom-cnn-images.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    storage: Annotated[
        str | None,
        Flag(
            metavar="URL",
            help="Database of the trials for several machines, such as postgresql://user@host/db. Default: a journal file beside the runs.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    sampler: Annotated[
        Sampler,
        Flag(
            metavar="|".join(SAMPLERS),
            help="Proposal of parameters: tpe learns from the trials so far, random does not.",
            rich_help_panel=PANEL,
        ),
    ] = DEFAULT_SAMPLER,
    prune: Annotated[
        bool, Flag("--prune/--no-prune", help="End a trial early if it is worse than the median of the others.", rich_help_panel=PANEL)
    ] = True,
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    print_space: Annotated[
        bool, Flag("--print-space", help="Print the space as TOML, as --space reads it, and stop.", rich_help_panel=PANEL)
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Search for better settings by trials, each a training with a run of its own.

    The best value of --monitor on val decides, and test stays closed. The same command in a second terminal, or with --storage on
    another machine, joins the search.

    \b
    cnnkit tune --data ./images --trials 30
    cnnkit tune --data ./images --name widths --search width=32,64,128
    """
    seconds = budget_seconds(budget)
    check_search(name, trials, sampler)
    from cnnkit.api.tuning.space import Layers, read_space

    layers = Layers(given, recipe, config)
    found = read_space(layers, words=search or (), file=space)
    if print_space:
        _print_space(found, json=json)
        return
    from cnnkit.tuning.storage import import_optuna

    import_optuna()
    from cnnkit.api.training.prepare import prepare
    from cnnkit.api.tuning.search import Search, default_name

    screen = console.err()
    settings = layers.config()
    with console.progress(screen, "images") as update:  # what every trial would refuse is refused here
        job = prepare(settings, progress=update, dry_run=True)
    work = Search(layers, found, name or default_name(settings), trials=trials, storage=storage, sampler=sampler, prune=prune)
    counts = job.counts
    console.say_labelled(screen, "data", f"{settings.data.data}: {counts['train']:,} training images, measured on {counts['val']:,} of val")
    console.say_notes(screen, job.notes)
    try:
        work.agree_on_images(job)  # also if no trial is left
        del job
        _describe(screen, work)
        _run(work, screen, seconds, trials)
        _report(work, layers, screen, json=json)
    finally:
        work.study.storage.close()


def _print_space(space: SearchSpace, *, json: bool) -> None:
    if json:
        console.print_json(space.to_dict())
        return
    for name, text in space.to_dict().items():
        console.say(console.out(), f'{name} = "{text}"')


def _describe(screen: Console, work: Search) -> None:
    """Print the space, the measure and the storage of the search."""
    known = work.study.trials()
    ended = f"; {len(known)} begun before" if known else ""
    console.say_labelled(screen, "space", "  ".join(f"{name}={text}" for name, text in work.space.to_dict().items()))
    console.say_labelled(screen, "search", f"{work.name}: {counted(work.study.options.trials, 'trial')}{ended}; best {work.monitor} on val")
    console.say_labelled(screen, "storage", work.study.storage.shown)


def _run(work: Search, screen: Console, seconds: float, trials: int) -> None:
    """Run the search and show its news."""
    from cnnkit.api.tuning.results import run_search
    from cnnkit.report.terminal.search import SearchTable

    try:
        with (
            interruptible(),
            SearchTable(screen, work.space.domains, metric=work.monitor, total=trials) as table,
        ):
            for news in run_search(work, seconds):
                table.show(news)
    except KeyboardInterrupt as stop:
        console.say(screen, f"stopped; {_kept(work)}; type the same command to continue")
        raise typer.Exit(exit_code(stop)) from None
    except TrainingStoppedError as error:
        raise TrainingStoppedError(f"{error}\n{_kept(work)}") from None


def _kept(work: Search) -> str:
    """Return the number of trials in each state and the file that keeps them."""
    from cnnkit.tuning.trials import counts

    try:
        found = counts(work.study.trials())
    except TrainingStoppedError:  # the storage has gone
        return f"the trials are in {work.study.storage.shown}"
    shown = listed(f"{number} {state}" for state, number in found.items()) or "no trial"
    return f"{shown}; {work.study.storage.shown} keeps them"


def _report(work: Search, layers: Layers, screen: Console, *, json: bool) -> None:
    """Write the results and print the best trial."""
    from cnnkit.api.tuning.results import write_results
    from cnnkit.report.terminal.search import params_text
    from cnnkit.tuning.trials import counts

    result = write_results(work)
    if json:
        console.print_json(result.to_dict())
    if result.best is None:
        raise CheckFailedError(f"no trial is complete: {listed(f'{n} {state}' for state, n in counts(result.trials).items())}")
    if json:
        return
    best, shown = result.best, console.out()
    console.say(shown, f"best trial {best.number} of {len(result.trials)}: {work.monitor} {best.value:.4f}  {params_text(best.params)}")
    if result.importances:
        console.say(shown, "importance  " + "  ".join(f"{name} {100 * share:.0f} %" for name, share in result.importances.items()))
    console.say(screen, "the best of many trials is better on val than on new images; test was not opened")
    console.say_end(shown, f"files {work.folder}; run {best.run}", f"cnnkit eval --model {shell_word(best.run)}")
    console.say(screen, f"as a recipe: cnnkit train{_train_flags(layers, result)}")


def _train_flags(layers: Layers, result: SearchResult) -> str:
    """Return the flags of ``cnnkit train`` with the settings of the best trial on the same images."""
    kept = {name: value for name, value in layers.given.items() if name in SECTIONS["data"].model_fields}
    return command_line(kept, config=result.files["recipe"])
