"""The trackers that follow one training; one that fails is let go with a note, and the training goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnkit.errors import CnnkitError, PluginError
from cnnkit.registry import TRACKERS, load

if TYPE_CHECKING:
    from cnnkit.engine.fit import EpochResult
    from cnnkit.trackers.protocol import Tracker


class Followers:
    """Some `trackers` by name; `notes` say which of them failed, and when."""

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = dict(trackers)
        self.notes: list[str] = []

    @classmethod
    def named(cls, names: Sequence[str]) -> Followers:
        """Load the trackers of these `names`, each once.

        Raises `PluginError` if one is not installed (those that are get listed) or does not work, `MissingExtraError` if a package lacks.
        """
        return cls({name: _make(name) for name in dict.fromkeys(names)})

    def start(self, facts: Mapping[str, Any], folder: Path, epoch: int) -> None:
        """Tell all that training begins, or goes on after `epoch`; arguments as of `Tracker.start`."""
        self._tell("at the start", lambda tracker: tracker.start(facts, folder, epoch))

    def epoch(self, result: EpochResult) -> None:
        """Tell all of an epoch that has ended."""
        self._tell(f"in epoch {result.epoch}", lambda tracker: tracker.epoch(result))

    def end(self, status: str) -> bool:
        """Tell all how the training ended; return whether that added to the notes."""
        before = len(self.notes)
        self._tell("at the end", lambda tracker: tracker.end(status))
        return len(self.notes) > before

    def _tell(self, when: str, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:  # noqa: BLE001 (a full disk, a server that is gone, a stranger's code: none is worth a training)
                del self._trackers[name]
                self.notes.append(f"--log {name} failed {when} and has followed no further: {type(error).__name__}: {error}")


def _make(name: str) -> Tracker:
    make, entry = load(TRACKERS, name)
    try:
        tracker = make()
    except CnnkitError:
        raise
    except Exception as error:
        raise PluginError(f"--log {name}: the tracker of {entry.origin} does not start: {type(error).__name__}: {error}") from error
    missing = [method for method in ("start", "epoch", "end") if not callable(getattr(tracker, method, None))]
    if missing:
        raise PluginError(f"--log {name}: {entry.value} of {entry.origin} is no tracker: it has no {', '.join(missing)}")
    return tracker
