"""The checks of all plugins but architectures: the type of the value, its one-line summary, and its functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from cnnkit.api.plugins.architecture_checks import exported, lower_the_loss
from cnnkit.api.plugins.plugin_report import PluginReport
from cnnkit.data.source import SourceKind
from cnnkit.errors import CheckFailedError
from cnnkit.exporters.protocol import Exporter
from cnnkit.extension.contract import check_augmentation, check_loss, check_metric, check_optimizer
from cnnkit.extension.values import Augmentation, Loss, Metric, Optimizer
from cnnkit.registry import AUGMENTATIONS, LOSSES, METRICS, OPTIMIZERS, Entry, load

SMALL_ARCHITECTURE, SMALL_SIZE = "custom-cnn", 16  # the network that an exporter writes, and its images in px
CONTRACTS: dict[str, tuple[type, Callable[[Any, str], None]]] = {  # the type of a value and its contract test
    METRICS: (Metric, check_metric),
    LOSSES: (Loss, check_loss),
    OPTIMIZERS: (Optimizer, check_optimizer),
    AUGMENTATIONS: (Augmentation, check_augmentation),
}
TRACKER_METHODS = {"start": ("facts", "folder", "epoch"), "epoch": ("result",), "end": ("status",)}


def check_source(report: PluginReport, entry: Entry, name: str) -> None:
    """Check a kind of source; nothing is opened, because that may need files or a download."""
    found = _value(entry, name)
    _check_type(report, entry, found, SourceKind, "cnnkit.data.source.SourceKind")
    remedy = "write it as: def open_source(request): ..."
    report.make("signatures", lambda: check_call(found.open, "open", ("request",)), entry, needs=["type"], remedy=remedy)


def check_exporter(report: PluginReport, entry: Entry, name: str) -> None:
    """Check an exporter; it exports a small trained network, and its file must give the predictions of the network."""
    found = _value(entry, name)
    _check_type(report, entry, found, Exporter, "cnnkit.exporters.protocol.Exporter")

    def check_signatures() -> None:
        check_call(found.write, "write", ("model", "path", "options") if found.has_choices else ("model", "path"))
        check_call(found.open, "open", ("path",))
        if found.name != entry.name:
            raise CheckFailedError(f"its name is {found.name!r}, and that of the entry point is {entry.name!r}; both are the files' suffix")

    def check_export() -> str:
        with torch.random.fork_rng(devices=()), TemporaryDirectory(prefix="cnnkit-check-") as folder:
            run, _ = lower_the_loss(SMALL_ARCHITECTURE, SMALL_SIZE, Path(folder))
            return exported(run, name if entry.is_builtin else entry.full_name)

    report.make("signatures", check_signatures, entry, needs=["type"], remedy="see cnnkit.exporters.protocol.Exporter")
    remedy = "the file must hold preprocessing, network and softmax"
    report.make("export", check_export, entry, needs=["signatures"], remedy=remedy)


def check_tracker(report: PluginReport, entry: Entry, name: str) -> None:
    """Check a tracker; it is not started, because that may reach a server."""
    found = _value(entry, name)

    def check_type() -> None:
        if not callable(found):
            raise CheckFailedError(f"is a {type(found).__name__}; a tracker is a class, or a function that returns one")
        check_call(found, entry.value.partition(":")[2], ())

    def check_signatures() -> str:
        if not inspect.isclass(found):
            return "a function, whose tracker is checked when a training starts"
        if missing := [method for method in TRACKER_METHODS if not callable(getattr(found, method, None))]:
            raise CheckFailedError(f"lacks the methods {', '.join(missing)}")
        for method, arguments in TRACKER_METHODS.items():
            check_call(getattr(found, method), method, ("self", *arguments))
        return ""

    report.make("type", check_type, entry, remedy="point the entry point to a class with the methods start, epoch and end")
    report.make("signatures", check_signatures, entry, needs=["type"], remedy="see cnnkit.trackers.protocol.Tracker")


def check_extension(report: PluginReport, entry: Entry, name: str) -> None:
    """Check a metric, a loss, an optimizer or an augmentation by the contract test of its group."""
    found, (kind, contract) = _value(entry, name), CONTRACTS[entry.group]
    _check_type(report, entry, found, kind, f"cnnkit.{kind.__name__}")
    report.make("contract", lambda: contract(found, entry.name), entry, needs=["type"], remedy="the promises stand in docs/plugins.md")


def _value(entry: Entry, name: str) -> Any:
    found, _ = load(entry.group, name if entry.is_builtin else entry.full_name)
    return found


def _check_type(report: PluginReport, entry: Entry, found: object, kind: type, shown: str) -> None:
    def check() -> None:
        if not isinstance(found, kind):
            raise CheckFailedError(f"is a {type(found).__name__}, not a {shown}")

    report.make("type", check, entry, remedy=f"point the entry point to a {shown}")
    _check_summary(report, entry, found)


def _check_summary(report: PluginReport, entry: Entry, found: object) -> None:
    def check() -> None:
        summary = getattr(found, "summary", "no summary is asked for")
        if not isinstance(summary, str) or len(summary.strip().splitlines()) != 1:
            raise CheckFailedError(f"its summary is {summary!r:.80}")

    report.make("summary", check, entry, remedy="give it a summary of one line")


def check_call(call: Callable[..., Any], name: str, arguments: tuple[str, ...]) -> None:
    """Raise `CheckFailedError` unless `call` takes exactly `arguments`, by position."""
    if not callable(call):
        raise CheckFailedError(f"its {name} is a {type(call).__name__}, not a function")
    try:
        inspect.signature(call).bind(*arguments)
    except TypeError as error:
        raise CheckFailedError(f"{name}({', '.join(arguments)}) does not fit its signature: {error}") from None
    except ValueError:  # a function of a compiled module has no signature
        return
