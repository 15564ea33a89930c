"""The trackers of one training; a tracker that fails is dropped with a note, and the training continues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnkit.errors import CnnkitError, PluginError
from cnnkit.registry import TRACKERS, Entry, fence, load

if TYPE_CHECKING:
    from cnnkit.engine.fit import EpochResult
    from cnnkit.trackers.protocol import Tracker


class Followers:
    """The trackers of one training by name; `notes` names those that failed, and when."""

    def __init__(self, trackers: Mapping[str, tuple[Tracker, Entry]]) -> None:
        self._trackers = dict(trackers)
        self.notes: list[str] = []

    @classmethod
    def named(cls, names: Sequence[str]) -> Followers:
        """Load the trackers `names`, each once.

        Raises `PluginError` if a tracker is not installed or does not work, `MissingExtraError` if its package is missing.
        """
        return cls({name: _make(name) for name in dict.fromkeys(names)})

    def start(self, facts: Mapping[str, Any], folder: Path, epoch: int) -> None:
        """Tell all trackers that the training starts, or continues after `epoch`; for the arguments see `Tracker.start`."""
        self._notify("at the start", lambda tracker: tracker.start(facts, folder, epoch))

    def epoch(self, result: EpochResult) -> None:
        """Tell all trackers the result of an epoch."""
        self._notify(f"in epoch {result.epoch}", lambda tracker: tracker.epoch(result))

    def end(self, status: str) -> bool:
        """Tell all trackers how the training ended; return whether that added notes."""
        before = len(self.notes)
        self._notify("at the end", lambda tracker: tracker.end(status))
        return len(self.notes) > before

    def _notify(self, when: str, call: Callable[[Tracker], None]) -> None:
        for name, (tracker, entry) in list(self._trackers.items()):
            try:
                with fence(entry, f"failed {when}", remedy="the training goes on"):
                    call(tracker)
            except CnnkitError as error:  # no error of a tracker may stop a training
                del self._trackers[name]
                self.notes.append(f"--log {name} was switched off: {error}")


def _make(name: str) -> tuple[Tracker, Entry]:
    make, entry = load(TRACKERS, name)
    with fence(entry, "does not start", remedy=f"leave out --log {name}"):
        tracker = make()
        missing = [method for method in ("start", "epoch", "end") if not callable(getattr(tracker, method, None))]
    if missing:
        raise PluginError(
            f"--log {name}: {entry.value} of {entry.origin} is not a tracker: it lacks {', '.join(missing)}; leave out --log {name}"
        )
    return tracker, entry
