"""The tracker contract: what a package provides under the entry-point group ``cnnkit.trackers``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from cnnkit.engine.fit import EpochResult


class Tracker(Protocol):
    """Follows one training. The entry point names a class, or any callable, that takes no argument and returns one.

    It is called before anything is read, so that is where a missing package is refused (`cnnkit.errors.MissingExtraError`). Whatever a
    tracker raises later ends its following, with a note, and not the training.
    """

    def start(self, facts: Mapping[str, Any], folder: Path, epoch: int) -> None:
        """Begin: `facts` are those of config.json, `folder` is the run directory, `epoch` the last that ended (0, or more on resume)."""
        ...

    def epoch(self, result: EpochResult) -> None:
        """Take in an epoch that has ended and is saved."""
        ...

    def end(self, status: str) -> None:
        """The training is ``finished``, ``stopped`` (it may be resumed) or ``failed`` (no epoch was usable)."""
        ...


def figures(result: EpochResult) -> dict[str, float]:
    """Return what the built-in trackers tell of an epoch, by name: losses in nats per image, accuracies in [0, 1].

    Those of val are left out after an epoch that was not evaluated.
    """
    told = {
        "loss/train": result.train_loss,
        "loss/val": result.val_loss,
        "accuracy/train": result.train_accuracy,
        "accuracy/val": result.val_accuracy,
        "macro_f1/val": result.val_macro_f1,
        "learning_rate": result.lr,
        "images_per_second": result.images_per_second,
    }
    return {name: value for name, value in told.items() if value is not None}


def settings(facts: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Return the settings among `facts` as ``{"optim.lr": 0.002}``; what has no value is left out, a list becomes text."""
    flat: dict[str, bool | int | float | str] = {}
    for section, values in facts["config"].items():
        for name, value in values.items() if isinstance(values, Mapping) else [("", values)]:
            if value is not None:
                flat[f"{section}.{name}".rstrip(".")] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
