"""The facts about a run and its repetition, from config.json, as pairs of a name and a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from cnnkit.errors import counted, listed, shell_line
from cnnkit.metrics.class_scores import MIN_CLASS_IMAGES
from cnnkit.report.page.curves import Course
from cnnkit.report.page.metrics import ClassRow
from cnnkit.report.terminal.console import escaped
from cnnkit.report.terminal.numbers import percent

if TYPE_CHECKING:
    from cnnkit.run_dir import RunRecord, StoredMetrics

_MEGA = 1e6
_MINUTE, _HOUR = 60, 3600

Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class ModelFacts:
    """The facts about a model file; `parameters` is None if they were not counted.

    `rules` holds ``abstention`` and ``label_sets`` of the file's header, if it has them.
    """

    name: str
    bytes: int
    sha256: str
    parameters: int | None
    temperature: float
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])


def command_line(record: RunRecord) -> str:
    """Return the command of the run, with the name of the program instead of its path."""
    return shell_line([PurePath(record.command[0]).name, *record.command[1:]]) if record.command else ""


def started_by_command(record: RunRecord) -> bool:
    """Return True if the command line is one of cnnkit; else another program called `cnnkit.train`."""
    return command_line(record).partition(" ")[0] in {"cnnkit", "__main__.py"}


def about(record: RunRecord) -> str:
    """Return the architecture, the data and the number of its training images in one line."""
    data = PurePath(record.data.name)
    name = data.name if data.is_absolute() else record.data.name
    return escaped(f"{record.arch.name}, trained on {counted(record.data.images.train)} of {name}")


def repeat_facts(record: RunRecord, epochs: Sequence[Course]) -> Facts:
    """Return the facts that a repetition must share for the same result: recipe, seed, device, data, versions."""
    runtime, data, settings = record.runtime, record.data, record.config
    options = " ".join(f"{name}={value}" for name, value in record.arch.options.items())
    computing = [runtime.device, runtime.precision, "channels last" if runtime.channels_last else ""]
    computing += [f"{runtime.replicas} replicas" if runtime.replicas > 1 else "", "compiled" if runtime.compiled else ""]
    return [
        ("architecture", f"{record.arch.name} {options}".strip()),
        ("recipe", settings.recipe),
        ("seed", f"{settings.run.seed}{', deterministic' if settings.run.deterministic else ''}"),
        ("device", ", ".join(part for part in computing if part)),
        ("data", data.name),
        ("fingerprint of the data", f"SHA-256 {data.sha256}"),
        ("images", ", ".join(f"{count:,} {split}" for split, count in data.images if count)),
        ("epochs", f"{_trained(epochs)}" + ("" if (kept := _kept(epochs)) is None else f", kept epoch {kept}")),
        ("versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
    ]


def timing_facts(epochs: Sequence[Course]) -> Facts:
    """Return the time and the speed of the training; empty without an epoch."""
    if not epochs:
        return []
    seconds = sum(epoch.seconds for epoch in epochs)
    images = sum(epoch.images_per_second * epoch.seconds for epoch in epochs)
    return [
        ("training", f"{duration(seconds)} in {_trained(epochs)} epochs"),
        ("time per epoch", duration(sum(epoch.seconds for epoch in epochs if epoch.epoch) / max(1, _trained(epochs)))),
        ("speed", f"{images / seconds:,.0f} images/s" if seconds else "not measured"),
    ]


def model_facts(record: RunRecord, model: ModelFacts) -> Facts:
    """Return the facts that a user of the model needs: its file, input, output and temperature."""
    shape = record.preprocessing
    colour = "gray" if shape.channels == 1 else "RGB"
    facts = [
        ("file", f"{model.name}, {model.bytes / _MEGA:.1f} MB, SHA-256 {model.sha256}"),
        ("parameters", f"{model.parameters:,}" if model.parameters is not None else ""),
        ("input", f"{colour}, {shape.image_size} × {shape.image_size} px by {shape.resize_mode}, {shape.interpolation}"),
        ("normalised by", f"mean {_numbers(shape.mean)}, std {_numbers(shape.std)}"),
        ("output", f"probabilities of {len(record.classes)} classes"),
        ("temperature", f"{model.temperature:.3f}" if model.temperature != 1 else "1: the probabilities are the network's own"),
    ]
    return [(name, text) for name, text in facts if text]


def settings_rows(record: RunRecord) -> list[tuple[str, Facts]]:
    """Return every resolved setting of config.json, by section."""
    settings = record.config.model_dump(mode="json")
    sections = [(name, values) for name, values in settings.items() if isinstance(values, Mapping)]
    return [(name, [(key, _setting(value)) for key, value in values.items()]) for name, values in sections]


def limits(record: RunRecord, metrics: StoredMetrics | None, classes: Sequence[ClassRow], findings: Sequence[str]) -> list[str]:
    """Return sentences on the limits of the model's use that the evaluation and the doctor found; empty if they found none."""
    leaks = [] if any(text.startswith("leak:") for text in findings) else [note for note in record.notes if "copy" in note]
    return [*_measured_limits(metrics, classes), *findings, *leaks]


def _measured_limits(metrics: StoredMetrics | None, classes: Sequence[ClassRow]) -> Iterator[str]:
    if metrics is None:
        return
    for one in metrics.baselines:
        if not one.beaten:
            yield f"The model is not clearly better than {escaped(one.summary)}, which is right for {percent(one.accuracy.value)} %."
    if few := [row.name for row in classes if row.few]:
        yield f"Classes with fewer than {MIN_CLASS_IMAGES} {metrics.split} images, whose scores are uncertain: {_named(few)}."
    if absent := [row.name for row in classes if not row.support]:
        yield f"Classes without a {metrics.split} image: {_named(absent)}."
    if unused := [row.name for row in classes if row.support and row.missed == row.support and not row.false_alarms]:
        yield f"Classes that the model never predicts: {_named(unused)}."
    if metrics.split == "val":
        yield "The metrics are measured on val, which also chose the epoch, so they are a little too good."
    if metrics.opened > 1:
        yield f"Test has been opened {metrics.opened} times. If its results led to a choice, its metrics are too good."
    if bad := metrics.unreadable:
        yield f"{counted(len(bad), 'unreadable image was', 'unreadable images were')} left out, such as {escaped(bad[0].path)}."


def duration(seconds: float) -> str:
    """Return a time as ``1 h 20 min``, ``3 min 5 s`` or ``4.2 s``."""
    if seconds >= _HOUR:
        return f"{int(seconds // _HOUR)} h {int(seconds % _HOUR // _MINUTE)} min"
    if seconds >= _MINUTE:
        return f"{int(seconds // _MINUTE)} min {int(seconds % _MINUTE)} s"
    return f"{seconds:.1f} s"


def _named(names: Sequence[str]) -> str:
    return listed(map(escaped, names))


def _trained(epochs: Sequence[Course]) -> int:
    """Return the number of epochs that were trained: epoch 0 is the start."""
    return sum(epoch.epoch > 0 for epoch in epochs)


def _kept(epochs: Sequence[Course]) -> int | None:
    return next((epoch.epoch for epoch in epochs if epoch.best), None)


def _numbers(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.3f}" for value in values)


def _setting(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_setting(one)}" for key, one in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " / ".join(_setting(one) for one in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
