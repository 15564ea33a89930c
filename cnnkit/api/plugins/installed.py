"""The list of installed plugins: each entry point of each group, with its package and its state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cnnkit.api.plugins.load_process import load_apart
from cnnkit.registry import GROUPS, Entry, find, peek, short_name, standing

State = Literal["loads", "does not load", "hidden by a built-in", "name taken by two packages"]


@dataclass(frozen=True)
class InstalledPlugin:
    """One entry point: its name, the last word of its group, its package, and its state with the reason, which is empty if it loads."""

    name: str
    group: str
    package: str
    version: str
    value: str
    state: State
    why: str
    summary: str


def list_plugins(groups: Sequence[str] = GROUPS) -> list[InstalledPlugin]:
    """Return the entry points of `groups`; those of other packages are loaded, in another process.

    The built-in ones are judged by their source alone, because cnnkit's own tests load them.
    """
    found = [(entry, entries) for group in groups for entries in find(group).values() for entry in entries]
    others = [entry for entry, _ in found if not entry.is_builtin]
    problems = {id(entry): loaded.problem for entry, loaded in zip(others, load_apart(others), strict=True)}
    return [_described(entry, entries, problems.get(id(entry))) for entry, entries in found]


def _described(entry: Entry, entries: Sequence[Entry], problem: str | None) -> InstalledPlugin:
    state, why = standing(entry, entries)
    seen = peek(entry)
    problem = problem or (seen.problem if entry.is_builtin else None)
    named: State = "hidden by a built-in" if state == "hidden" else "name taken by two packages" if state == "taken" else "loads"
    if problem:
        named, why = "does not load", "; ".join(filter(None, (problem, why)))
    return InstalledPlugin(entry.name, short_name(entry.group), entry.package, entry.version, entry.value, named, why, seen.summary)
