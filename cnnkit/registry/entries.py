"""The entries of installed packages, read from their metadata."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from cnnkit.errors import PluginError, closest

ARCHITECTURES = "cnnkit.architectures"
EXPORTERS = "cnnkit.exporters"
SOURCES = "cnnkit.sources"
TRACKERS = "cnnkit.trackers"
METRICS = "cnnkit.metrics"
LOSSES = "cnnkit.losses"
OPTIMIZERS = "cnnkit.optimizers"
AUGMENTATIONS = "cnnkit.augmentations"
# All of them, in the order of `cnnkit plugins list`.
GROUPS = (ARCHITECTURES, SOURCES, EXPORTERS, TRACKERS, METRICS, LOSSES, OPTIMIZERS, AUGMENTATIONS)
OWN_PACKAGE = "cnnkit"


Standing = Literal["own", "hidden", "taken"]  # the name of an entry means it, a built-in one, or none of two packages


@dataclass(frozen=True)
class Entry:
    """One registered name, the object `value` that it points to, and the installed package that registers it."""

    group: str
    name: str
    value: str
    package: str
    version: str

    @property
    def kind(self) -> str:
        """The noun of the group, such as ``architecture``."""
        return noun(self.group)

    @property
    def origin(self) -> str:
        """The package and its version, as messages name it."""
        return f"{self.package} {self.version}"

    @property
    def full_name(self) -> str:
        """The name with its package, which always means this entry: ``package:name``."""
        return f"{self.package}:{self.name}"

    @property
    def described(self) -> str:
        """The kind and the name with package and version, as messages name the entry: ``architecture 'x' of package 1.0``."""
        return f"{self.kind} {self.name!r} of {self.origin}"

    @property
    def is_builtin(self) -> bool:
        """True for an entry of cnnkit itself."""
        return _canonical(self.package) == OWN_PACKAGE


def find(group: str, path: Iterable[str] | None = None) -> dict[str, list[Entry]]:
    """Return the entries of `group` by name, sorted; a name of two packages has two entries.

    `path` lists folders to search instead of `sys.path`. A distribution that is on the path twice, such as an installed
    copy and a checkout, counts once, as in an import. A distribution with unreadable metadata has no entries.
    """
    folders = sys.path if path is None else list(path)
    found: dict[str, list[Entry]] = {}
    holders: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions(path=folders):
        if any(point.group == group for point in _entry_points(distribution)):  # reading all other names would be slow
            holders.setdefault(_canonical(_name(distribution)), distribution)
    for canonical, holder in holders.items():
        distribution = next(iter(metadata.distributions(name=canonical, path=folders)), holder)
        package, version = _name(distribution), _version(distribution)
        for point in _entry_points(distribution):
            if point.group == group:
                found.setdefault(point.name, []).append(Entry(group, point.name, point.value, package, version))
    return {name: sorted(found[name], key=lambda entry: entry.package) for name in sorted(found)}


def find_all() -> Iterator[Entry]:
    """Yield the entries of all groups."""
    return (entry for group in GROUPS for named in find(group).values() for entry in named)


def choose(group: str, name: str, path: Iterable[str] | None = None, *, built_in: Iterable[str] = ()) -> Entry:
    """Return the entry that `name` means: the built-in one if there is one, else the only one; ``package:name`` names any.

    `built_in` are further names that the error lists, of choices that need no entry. Raises `PluginError` if there is no such entry,
    with the command that lists the group, and if several packages provide the name.
    """
    found = find(group, path)
    entries = found.get(name) or _of_package(name, found)
    if not entries:
        known = [*built_in, *found]
        advice = "list the installed ones" if found else "install the package that has it, then check"
        raise PluginError(
            f"no {noun(group)} named {name!r} is installed{closest(name, known)} Known: {', '.join(known) or 'none'}; "
            f"{advice} with: {list_command(group)}"
        )
    builtin = [entry for entry in entries if entry.is_builtin]
    if len(entries) > 1 and not builtin:
        holders = " and ".join(entry.origin for entry in entries)
        names = " or ".join(entry.full_name for entry in entries)
        raise PluginError(
            f"{noun(group)} {name!r} is provided by {len(entries)} packages: {holders}; uninstall all but one, or name one: {names}"
        )
    return (builtin or entries)[0]


def standing(entry: Entry, entries: Sequence[Entry]) -> tuple[Standing, str]:
    """Return what the name of `entry` means among the `entries` of that name, and the reason why it does not mean `entry`.

    A built-in one hides all others. Without one, a name of two packages means none of them.
    """
    others = [other for other in entries if other is not entry]
    if any(other.is_builtin for other in others):
        return "hidden", f"a built-in {entry.kind} has this name; name this one {entry.full_name}"
    if not others or entry.is_builtin:
        return "own", ""
    origins = " and ".join(other.origin for other in others)
    return "taken", f"{origins} provides this name too: uninstall all but one, or name this one {entry.full_name}"


def _of_package(name: str, found: dict[str, list[Entry]]) -> list[Entry]:
    """Return the entries that the name ``package:name`` means."""
    package, _, short = name.partition(":")
    return [entry for entry in found.get(short, ()) if _canonical(entry.package) == _canonical(package)]


def short_name(group: str) -> str:
    """Return the last word of a group, such as ``architectures``, as ``--group`` takes it."""
    return group.rpartition(".")[2]


def list_command(group: str) -> str:
    """Return the command that lists the entries of `group`, for the end of an error."""
    return "cnnkit archs" if group == ARCHITECTURES else f"cnnkit plugins list --group {short_name(group)}"


def noun(group: str) -> str:
    """Return the singular of the group's name, such as ``architecture``."""
    return "loss" if group == LOSSES else short_name(group).rstrip("s")


def _canonical(package: str) -> str:
    return package.lower().replace("_", "-").replace(".", "-")


def _entry_points(distribution: metadata.Distribution) -> Iterable[metadata.EntryPoint]:
    try:
        return [*distribution.entry_points]
    except Exception:  # noqa: BLE001 (the parser of Python raises several types for a damaged file)
        return ()


def _name(distribution: metadata.Distribution) -> str:
    return _field(distribution, "Name") or "unknown package"


def _version(distribution: metadata.Distribution) -> str:
    return _field(distribution, "Version") or "of unknown version"


def _field(distribution: metadata.Distribution, name: str) -> str:
    try:
        return str(distribution.metadata[name] or "")
    except Exception:  # noqa: BLE001 (a damaged or missing file, see above)
        return ""
