"""The tracker contract: the class behind an entry point of the group ``cnnkit.trackers``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from cnnkit.engine.fit import EpochResult


class Tracker(Protocol):
    """A recorder of one training. The entry point names a class, or any callable without arguments that returns a tracker.

    The callable runs before any data is read, so it should raise `cnnkit.errors.MissingExtraError` if a package is missing. A
    later error of a tracker switches the tracker off with a note, and the training continues.
    """

    def start(self, facts: Mapping[str, Any], folder: Path, epoch: int) -> None:
        """Start with the content of config.json, the run directory, and the last finished epoch (0, or more after a resume)."""
        ...

    def epoch(self, result: EpochResult) -> None:
        """Record the result of an epoch, which is saved already."""
        ...

    def end(self, status: str) -> None:
        """End with the status of the training: ``finished``, ``stopped`` (it may be resumed) or ``failed`` (no usable epoch)."""
        ...


def epoch_metrics(result: EpochResult) -> dict[str, float]:
    """Return the metrics of an epoch by the names of the built-in trackers: losses in nats per image, accuracies in [0, 1].

    The metrics of val are left out if the epoch was not evaluated.
    """
    metrics = {
        "loss/train": result.train_loss,
        "loss/val": result.val_loss,
        "accuracy/train": result.train_accuracy,
        "accuracy/val": result.val_accuracy,
        "macro_f1/val": result.val_macro_f1,
        "learning_rate": result.lr,
        "images_per_second": result.images_per_second,
    }
    return {name: value for name, value in metrics.items() if value is not None}


def settings(facts: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Return the settings in `facts` as ``{"optim.lr": 0.002}``, without those that have no value; a list becomes text."""
    flat: dict[str, bool | int | float | str] = {}
    for section, values in facts["config"].items():
        for name, value in values.items() if isinstance(values, Mapping) else [("", values)]:
            if value is not None:
                flat[f"{section}.{name}".rstrip(".")] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
