"""``cnnkit train``: from a folder of images to a run directory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Never

import typer

from cnnkit.cli import console
from cnnkit.cli.interruption import exit_code, interruptible
from cnnkit.cli.options import ConfigOption, JsonFlag, RecipeOption
from cnnkit.cli.ranks import INTERRUPTIONS, DevicesOption, device_for, joined, screen_of, start_ranks
from cnnkit.cli.setting_flags import with_config_options
from cnnkit.cli.streams import results
from cnnkit.config.parsing import command_line
from cnnkit.config.recipe import resolve, to_toml
from cnnkit.config.settings import BUILT_IN_LOSSES, START_SHARE, by_section
from cnnkit.errors import ModelFileError, RankLostError, TrainingStoppedError, counted, describe_fault, is_fault, listed, shell_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from cnnkit.api.training.job import TrainingJob
    from cnnkit.config.settings import OptimSettings, TrainConfig
    from cnnkit.data.dataset import Dataset
    from cnnkit.data.source import Source
    from cnnkit.engine.ranks import Ranks
    from cnnkit.run_dir import RunDir

Flag = typer.Option


@with_config_options
def command(
    given: dict[str, Any],
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    print_config: Annotated[bool, Flag("--print-config", help="Print the settings as TOML and stop.", rich_help_panel="Run")] = False,
    dry_run: Annotated[
        bool,
        Flag("--dry-run", help="Check data and settings, build the model and describe the training. Writes no run.", rich_help_panel="Run"),
    ] = False,
    devices: DevicesOption = None,
    json: JsonFlag = False,
) -> None:
    """Train a classifier on a folder of images and keep the best model in a run directory.

    \b
    cnnkit train --data ./images
    cnnkit train --data ./images --budget 10m
    cnnkit train --data ./images --arch timm/resnet18 --weights pretrained
    """
    typed = command_line(given, recipe, config)
    settings = resolve(by_section(given), recipe=recipe, file=config)
    settings = settings.model_copy(
        update={"run": settings.run.model_copy(update={"device": device_for(devices, settings.run.device)})} if devices else {}
    )
    if print_config:
        if json:
            console.print_json(settings.model_dump(mode="json"))
        else:
            results().write(to_toml(settings, ascii_only=not console.is_utf8(results())))
        return
    start_ranks(devices, settings.run.device)
    from cnnkit.data.prefetch import prefetch
    from cnnkit.engine.rank_environment import rank_count

    found = prefetch(settings.data, settings.run.seed) if rank_count() == 1 else lambda: None
    with joined(settings.run.device) as ranks:  # loads torch, so the flags are checked first
        job = _prepare(settings, ranks, found, dry_run=dry_run)
        screen = screen_of(ranks)
        if not dry_run:
            run_job(job, screen, json=json)
            return
        untested = "; --lr auto: no range test was made" if settings.optim.lr == "auto" else ""
        wanted = f" --devices {devices}" if devices else ""
        console.say_end(screen, f"dry run: nothing was trained{untested}", f"cnnkit train{typed}{wanted}")
        if json and ranks.is_first:
            console.print_json({"arch": job.header.arch, "classes": job.header.classes, "images": job.counts, "notes": job.notes})


def _prepare(settings: TrainConfig, ranks: Ranks, prefetched: Callable[[], tuple[Source, Dataset] | None], *, dry_run: bool) -> TrainingJob:
    """Prepare the training, or continue the run of an earlier attempt of the same launch; describe it."""
    from cnnkit.api.training.prepare import prepare

    screen = screen_of(ranks)
    if ranks.is_restarted and not dry_run:
        from cnnkit.api.training.resume import find_restarted, resume
        from cnnkit.data.shards.named_addresses import name_address

        name_address(settings.data.data)  # this command names it, also on a machine that has not read it
        restarted = ranks.agreed(lambda: find_restarted(settings.run.out))
        if restarted is not None:
            with console.progress(screen, "reading images") as update:
                job = resume(restarted.path, progress=update, ranks=ranks)
            console.say(screen, f"started again by torchrun or SLURM: continuing {restarted.path} {job.state.position}")
            describe(screen, job)
            return job
    source, dataset = prefetched() or (None, None)
    with console.progress(screen, "images") as update:
        job = prepare(settings, source=source, dataset=dataset, progress=update, dry_run=dry_run, ranks=ranks)
    describe(screen, job)
    return job


def describe(screen: Console, job: TrainingJob) -> None:
    """Print the data, the classes, the model and the recipe of the training."""
    counts, store, optim = job.counts, job.dataset.store, job.config.optim
    parameters = sum(parameter.numel() for parameter in job.model.parameters())
    splits = ", ".join(f"{split} {count:,}" for split, count in counts.items() if count)
    lines = {
        "data": f"{job.config.data.data}: {counted(len(job.dataset.samples))} ({splits}); {store.storage}",
        "classes": f"{len(job.header.classes)}: {listed(job.header.classes)}",
        "model": f"{job.header.arch}, {parameters:,} parameters, {job.header.preprocessing.image_size} px; {job.runtime.describe()}",
        "recipe": f"{job.config.recipe}: {_length(optim)}, {_loss(optim)}{optim.optimizer}, "
        f"lr {optim.lr if optim.lr == 'auto' else f'{optim.lr:g}'}, "
        f"batches of {optim.batch_size}{_parts(job)}{_start(optim)}; best epoch by {job.config.stop.monitor}",
    }
    for name, text in lines.items():
        console.say_labelled(screen, name, text)
    console.say_notes(screen, job.notes)
    console.say_skipped(screen, job.dataset.bad, "config.json")


def _parts(job: TrainingJob) -> str:
    """Return the number of images of a batch on each rank, if there are several."""
    world = job.ranks.world
    return f" ({-(-job.optim.batch_size // world)} on each of {world} ranks)" if world > 1 else ""


def _length(optim: OptimSettings) -> str:
    """Return the maximal length of the training: its epochs, or its time budget."""
    if not optim.budget:
        return f"at most {counted(optim.epochs, 'epoch')}"
    minutes, seconds = divmod(round(optim.budget), 60)
    return f"{minutes} min {seconds} s" if minutes and seconds else (f"{minutes} min" if minutes else f"{seconds} s")


def _loss(optim: OptimSettings) -> str:
    """Return the loss, if it is another than cross-entropy."""
    return "" if optim.loss in BUILT_IN_LOSSES else f"loss {optim.loss}, "


def _start(optim: OptimSettings) -> str:
    """Return the image size at the start of the training, if it differs from the later size."""
    return f", {optim.start_size} px in the first {100 * START_SHARE:.0f} %" if optim.start_size else ""


def run_job(job: TrainingJob, screen: Console, *, json: bool) -> None:
    """Train `job` as `train_job` does, and print the result on rank 0."""
    if not job.ranks.is_first:
        train_job(job, screen)
        return
    from cnnkit.model.file import read_header
    from cnnkit.report.terminal.calibration import calibration_line

    started = time.perf_counter()
    run = train_job(job, screen)
    stopping = job.state.stopping
    best = run.best_row(run.read_history(), stopping.best_epoch)
    assert best.val_loss is not None  # noqa: S101 (of the best epoch)
    assert best.val_accuracy is not None  # noqa: S101
    header = read_header(run.best)
    if json:
        facts = {"run": str(run.path), "model": str(run.best), "epochs": job.state.epoch, "stopped_early": stopping.exhausted}
        numbers = best.model_dump(include={"val_loss", "val_accuracy", "train_loss", "train_accuracy"})
        console.print_json(
            {
                **facts,
                "seconds": time.perf_counter() - started,
                "best": {"epoch": stopping.best_epoch, "monitor": stopping.monitor, **numbers},
                "temperature": header.temperature,
                "calibration": header.calibration.to_dict() if header.calibration else None,
            }
        )
        return
    end = f"stopped early: no better {stopping.monitor} for {counted(stopping.waited, 'epoch')}; " if stopping.exhausted else ""
    if job.config.optim.budget and not stopping.exhausted:
        passes = job.state.step * job.config.optim.accumulate / job.batches.steps
        end = (
            f"the time budget ended after {job.state.spent:.0f} s and {passes:.1f} passes over the training images; "
            if job.state.epoch
            else "the time budget was enough for the fit of the last layer only; "
        )
    result = console.out()
    console.say(
        result,
        f"{end}kept epoch {stopping.best_epoch} of {job.state.epoch}, best by {stopping.monitor}: "
        f"val_loss {best.val_loss:.4f}, val_accuracy {100 * best.val_accuracy:.1f} %",
    )
    console.say(result, calibration_line(header.temperature, header.calibration))
    model_flag = "" if job.config.run.out is None else f" --model {shell_path(run.path)}"
    console.say_end(result, f"run directory {run.path}", f"cnnkit eval --confusion{model_flag}")


def train_job(job: TrainingJob, screen: Console) -> RunDir:
    """Train `job`, show the epochs and return the run; after an interruption, print the kept files and the command that continues.

    Raises `TrainingStoppedError` if the training fails or no epoch has a finite monitored metric.
    """
    run = job.run or job.begin()
    if job.ranks.several and job.ranks.is_first:
        from cnnkit.engine.launcher import report

        report("run", run.path)
    with interruptible():
        _train(job, run, screen)
    stopping = job.state.stopping
    if not stopping.has_best:
        raise TrainingStoppedError(
            f"no epoch had a finite {stopping.monitor}, so there is no model; try a smaller --lr; run directory: {run.path}"
        )
    return run


def _train(job: TrainingJob, run: RunDir, screen: Console) -> None:
    """Train `job` in `run`, show the epochs and draw their curves."""
    from cnnkit.report.terminal.live import EpochTable

    shown = len(job.notes)
    try:
        with EpochTable(screen, None if job.config.optim.budget else job.config.optim.epochs, images=job.batches.images) as table:
            for epoch in job.epochs(table.watch):
                table.add(epoch)
                console.say_notes(screen, job.notes[shown:])
                shown = len(job.notes)
    except KeyboardInterrupt as stop:
        if lost := job.ranks.lost():  # after a failure, the launcher interrupts the other ranks
            _rank_lost(job, screen, lost)
        _interrupted(job, screen, exit_code(stop))
    except RankLostError as error:
        _rank_lost(job, screen, error)
    except TrainingStoppedError as error:
        raise TrainingStoppedError(f"{error}\nrun directory: {run.path}") from None
    finally:
        console.say_notes(screen, job.followers.notes)
        if job.ranks.is_first:
            _plot(run, screen)


def _plot(run: RunDir, screen: Console) -> None:
    """Draw curves.png; a failure is only a note, so that it ends no finished training and hides no error of a stopped one."""
    try:
        rows = run.read_history()
        if rows:
            from cnnkit.report.pictures.plots import plot_curves  # loads matplotlib, which must not delay the first step

            plot_curves(rows, run.path / "curves.png")
    except ModelFileError as error:
        console.say_notes(screen, [str(error)])
    except Exception as error:  # noqa: BLE001 (matplotlib raises many types, for a font or a cache that cannot be read)
        reason = describe_fault(error, run.path) if is_fault(error) else f"{type(error).__name__}: {error}"
        console.say_notes(screen, [f"curves.png was not drawn ({reason}); the training and its files are not affected"])


def _rank_lost(job: TrainingJob, screen: Console, error: RankLostError) -> Never:
    """End the training after another rank has ended: raise `error`, or as `_interrupted` does after an interruption of that rank."""
    if error.exit_code in INTERRUPTIONS:
        _interrupted(job, screen, error.exit_code)
    raise error


def _interrupted(job: TrainingJob, screen: Console, code: int) -> Never:
    """Print the kept files and the command that continues the training; raise `typer.Exit` with the exit code."""
    stopping, run = job.state.stopping, job.run
    assert run is not None  # noqa: S101 (a training that started has its run)
    if not run.history.is_file():
        sentence = f"stopped before the first epoch ended, so there is no model yet; run directory {run.path}"
    elif stopping.has_best:
        sentence = f"stopped; the best model so far, of epoch {stopping.best_epoch}, is kept in {run.best}"
    else:
        sentence = f"stopped; no epoch had a finite {stopping.monitor}, so no model is kept"
    console.say_end(screen, sentence, f"cnnkit resume {shell_path(run.path)}")
    raise typer.Exit(code)
