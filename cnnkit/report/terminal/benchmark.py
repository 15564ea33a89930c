"""The summary of a benchmark in the terminal, within 80 columns; its JSON document has every figure too."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cnnkit.report.terminal.console import escaped
from cnnkit.speed.advice import size_text, verdict
from cnnkit.speed.values import Benchmark, Memory, ModelSpeed, StageSpeed, TrainingSpeed

START_TEXTS = {"imports": "imports", "gpu": "starting the GPU", "images": "reading images", "network": "network and probe"}
STAGE_TEXTS = {
    "load": "reading, decoding and resizing files",
    "gather": "taking rows from the store",
    "augment": "random augmentation",
    "normalise": "conversion to normalised floats",
    "step": "training step alone, on data in memory",
    "train": "complete training, all of the above",
    "validate": "validation from the store",
}
STAGE_TEXTS_WITHOUT_STORE = {
    "gather": "taking rows from a store, for comparison",
    "train": "complete training, with decoding",
    "validate": "validation from the files",
}
_STAGE_WIDTH = 9  # cells of the longest name of a stage
MIN_CPU_SECONDS = 0.01  # the clock of a process ticks a hundred times a second


def benchmark_summary(benchmark: Benchmark) -> RenderableType:
    """Return the subject of the benchmark, tables of stages, single images and memory, and the verdict."""
    parts: list[RenderableType] = [Text(line, overflow="fold") for line in _head(benchmark)]
    parts += ["", _stages(benchmark)]
    training = benchmark.training
    if training:
        parts += ["", Text(_efficiency(training))]
        parts += [Text(_start(training.start_seconds))] if training.start_seconds else []
    if benchmark.models:
        parts += ["", _latencies(benchmark.models)]
    if any(model.file for model in benchmark.models):
        parts += ["", _files([model for model in benchmark.models if model.file])]
    parts += ["", _memory(benchmark), "", Text("verdict: ", style="bold").append(escaped(verdict(benchmark)), style="not bold")]
    return Group(*parts)


def benchmark_document(benchmark: Benchmark) -> dict[str, Any]:
    """Return the JSON document with every figure and the verdict."""
    return {**benchmark.to_dict(), "verdict": verdict(benchmark)}


def _head(benchmark: Benchmark) -> Iterator[str]:
    training = benchmark.training
    if training:
        count = f"{training.images:,} training images, {training.image_size} px, batches of {training.batch_size}"
        yield escaped(f"{training.arch} on {training.data}: {count}")
        yield training.runtime
    yield from (escaped(f"{model.name}: {model.file}, on {model.images}") for model in benchmark.models if model.file)
    machine = benchmark.machine
    where = ", ".join(str(machine[name]) for name in ("gpu", "system") if name in machine)
    yield f"{where}, {machine['cores']} cores, torch {machine['torch']}; about {benchmark.seconds_per_stage:g} s per stage"


def _stages(benchmark: Benchmark) -> Table:
    table = _table("stage", "", right=("images/s", "CPU-s / 1,000"))
    training = benchmark.training
    if training:
        texts = STAGE_TEXTS | (STAGE_TEXTS_WITHOUT_STORE if training.cache == "none" else {})
        for name, stage in training.stages.items():
            table.add_row(name, texts[name], *_figures(stage), style="bold" if name == "train" else "")
        for trial in training.trials:
            table.add_row("step", f"with {trial.flag}", *_figures(trial.step))
    for model in benchmark.models:
        table.add_row("predict", f"{_name(model)}, from files", *_figures(model.predict))
        table.add_row("classify", f"{_name(model)}, from decoded images", *_figures(model.classify))
    return table


def _efficiency(training: TrainingSpeed) -> str:
    return (
        f"training reaches {100 * training.efficiency:.0f} % of its steps' speed "
        f"and waits for data {100 * training.data_wait_share:.1f} % of the time"
    )


def _start(seconds: Mapping[str, float]) -> str:
    """Return the seconds before the first step, by their cause."""
    known = ", ".join(f"{START_TEXTS[name]} {took:.1f} s" for name, took in seconds.items())
    return f"before the first step: {known}"


def _latencies(models: tuple[ModelSpeed, ...]) -> Table:
    table = _table("one image", "", right=("median ms", "p95 ms", "p99 ms", "decoding ms"))
    for model in models:
        figures = (model.latency.p50_ms, model.latency.p95_ms, model.latency.p99_ms, model.latency.decode_p50_ms)
        table.add_row("predict", _name(model), *(f"{value:.1f}" for value in figures))
    return table


def _files(models: Sequence[ModelSpeed]) -> Table:
    """Return the size of every file, and its accuracy if that was measured."""
    measured = next((model.accuracy for model in models if model.accuracy), None)
    heads = (f"accuracy on {measured.images} {measured.split} images", "95 % interval") if measured else ()
    table = _table("file", "", right=("size", *heads))
    for model in models:
        found = model.accuracy
        cells = (f"{100 * found.value:.1f} %", f"{100 * found.low:.1f} to {100 * found.high:.1f}") if found else ("-", "-")
        table.add_row("predict", _name(model), f"{model.size_bytes / 1e6:.1f} MB", *cells[: len(heads)])
    return table


def _memory(benchmark: Benchmark) -> Table:
    rows: dict[tuple[str, str], Memory] = {}
    if benchmark.training:
        rows["train", ""] = benchmark.training.stages["train"].memory
    # the memory of an untrained model would include the memory of the training before it
    rows |= {("predict", _name(model)): model.predict.memory for model in benchmark.models if model.file}
    shown = {"peak RSS": "peak_rss_bytes", "PSS with workers": "pss_bytes", "peak GPU": "gpu_peak_bytes"}
    kept = {head: key for head, key in shown.items() if any(getattr(memory, key) is not None for memory in rows.values())}
    table = _table("memory", "", right=tuple(kept))
    for (stage, name), memory in rows.items():
        table.add_row(stage, name, *("-" if getattr(memory, key) is None else size_text(getattr(memory, key)) for key in kept.values()))
    return table


def _table(*left: str, right: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, head in enumerate(left):
        table.add_column(head, overflow="fold", min_width=_STAGE_WIDTH if not index else None, no_wrap=not index)
    for head in right:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _figures(stage: StageSpeed) -> tuple[str, str]:
    return three_digits(stage.images_per_second), three_digits(stage.cpu_seconds_per_1000_images)


def three_digits(value: float) -> str:
    """Return a positive number with three digits, the precision of a measurement of two seconds."""
    digits = 2 - math.floor(math.log10(value)) if value >= MIN_CPU_SECONDS else None
    return f"< {MIN_CPU_SECONDS:g}" if digits is None else f"{round(value, digits):,.{max(0, digits)}f}"


def _name(model: ModelSpeed) -> str:
    return model.name if model.file else f"{model.format}, untrained"
