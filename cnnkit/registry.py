"""The registry of entry points, which are found in package metadata and imported only when their name is asked for.

One code path serves every group (`cnnkit.architectures`, `cnnkit.exporters`, ...) and treats built-in and third-party entries
the same. So a broken package, or a name of two packages, is an error only for a user who asks for that name.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from cnnkit.architecture import Architecture, Family
from cnnkit.errors import PluginError, closest

ARCHITECTURES = "cnnkit.architectures"
EXPORTERS = "cnnkit.exporters"
SOURCES = "cnnkit.sources"
TRACKERS = "cnnkit.trackers"


@dataclass(frozen=True)
class Entry:
    """One registered name, the object `value` that it points to, and the installed package that registers it."""

    group: str
    name: str
    value: str
    package: str
    version: str

    @property
    def origin(self) -> str:
        """The package and its version, as messages name it."""
        return f"{self.package} {self.version}"


@dataclass(frozen=True)
class Peek:
    """The facts about an entry that need no import: its summary, the reason why it would not load, and its image size in px (or None)."""

    summary: str
    problem: str | None
    image_size: int | None = None


def find(group: str, path: Iterable[str] | None = None) -> dict[str, list[Entry]]:
    """Return the entries of `group` by name, sorted; a name of two packages has two entries.

    `path` lists folders to search instead of `sys.path`. A distribution that is on the path twice, such as an installed
    copy and a checkout, counts once, as in an import.
    """
    folders = sys.path if path is None else list(path)
    found: dict[str, list[Entry]] = {}
    holders: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions(path=folders):
        if any(point.group == group for point in distribution.entry_points):  # reading all other names would be slow
            holders.setdefault(_name(distribution).lower().replace("_", "-"), distribution)
    for canonical, holder in holders.items():
        distribution = next(iter(metadata.distributions(name=canonical, path=folders)), holder)
        package = _name(distribution)
        for point in distribution.entry_points:
            if point.group == group:
                found.setdefault(point.name, []).append(Entry(group, point.name, point.value, package, distribution.version))
    return {name: sorted(found[name], key=lambda entry: entry.package) for name in sorted(found)}


def _name(distribution: metadata.Distribution) -> str:
    return distribution.metadata["Name"] or "unknown package"


def load(group: str, name: str, path: Iterable[str] | None = None) -> tuple[Any, Entry]:
    """Import the object of entry `name` in `group`; return the object and the entry.

    Raises `PluginError` if the name is unknown, belongs to several packages or fails to import. The error names the closest
    names, all packages, or package, version and cause.
    """
    found = find(group, path)
    kind = group.rpartition(".")[2].rstrip("s")
    if name not in found:
        raise PluginError(f"no {kind} named {name!r} is installed{closest(name, found)} Known: {', '.join(found) or 'none'}")
    entries = found[name]
    if len(entries) > 1:
        holders = " and ".join(entry.origin for entry in entries)
        raise PluginError(f"{kind} {name!r} is provided by {len(entries)} packages: {holders}; uninstall all but one")
    entry = entries[0]
    try:
        return metadata.EntryPoint(name, entry.value, group).load(), entry
    except Exception as error:  # a third-party module may raise any type at import
        raise PluginError(
            f"{kind} {name!r} of {entry.origin} does not load: {type(error).__name__}: {error}; reinstall or uninstall {entry.package}"
        ) from error


def load_architecture(name: str, path: Iterable[str] | None = None) -> tuple[Architecture, Entry]:
    """Return the architecture `name`, which may be a ``family/member``, and its entry.

    Raises `PluginError` as `load` does, and if the entry is not an `Architecture` or the family does not have the member.
    """
    family, slash, member = name.partition("/")
    if not slash and family not in find(ARCHITECTURES, path):
        _refuse_member(name, path)
    found, entry = load(ARCHITECTURES, family, path)
    if isinstance(found, Family):
        if not member:
            raise PluginError(
                f"{name!r} is a family of architectures; name a member, such as {name}/…; list them with: cnnkit archs '{name}/*'"
            )
        try:
            return found.get(member), entry
        except KeyError:
            near = closest(member, found.members())
            raise PluginError(
                f"family {family!r} ({entry.origin}) has no member {member!r}{near} List them with: cnnkit archs '{family}/*'"
            ) from None
    if not isinstance(found, Architecture):
        raise PluginError(f"architecture {family!r} of {entry.origin} is a {type(found).__name__}, not a cnnkit.Architecture")
    if slash:
        raise PluginError(f"architecture {family!r} is not a family; ask for {family!r} without '/{member}'")
    return found, entry


def _refuse_member(name: str, path: Iterable[str] | None) -> None:
    """Raise `PluginError` if `name` is a member of a family and lacks the family's name, such as ``resnet18`` of timm.

    Only entries that are families by their source are loaded, and a family that fails is passed over.
    """
    matches: list[str] = []
    for family, entries in find(ARCHITECTURES, path).items():
        if len(entries) > 1 or not _is_family(entries[0]):
            continue
        with suppress(Exception):  # a third-party family may raise anything, and another name was asked for
            found, _ = load(ARCHITECTURES, family, path)
            found.get(name)
            matches.append(f"{family}/{name}")
    if matches:
        listed = " or ".join(f"--arch {match}" for match in matches)
        raise PluginError(f"no architecture named {name!r} is installed, but a family has it; type: {listed}")


def _is_family(entry: Entry) -> bool:
    """Tell from the source alone whether an entry is assigned a call of `Family`."""
    module, _, attribute = entry.value.partition(":")
    try:
        source = _source(module)
        tree = ast.parse(source.read_bytes()) if source else ast.Module([], [])
    except (SyntaxError, OSError, ValueError):
        return False
    calls = [getattr(statement, "value", None) for statement in tree.body if attribute in _bound(statement)]
    return any(isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] == "Family" for call in calls)


def peek(entry: Entry) -> Peek:
    """Return the summary and the image size of an entry, and the reason why it would not load, from its source alone.

    It finds a missing module, a syntax error, a missing name and a missing import. Errors during the import need the import
    itself (`cnnkit archs --check`).
    """
    module, _, attribute = entry.value.partition(":")
    try:
        source = _source(module)
        if source is None:
            return Peek("", f"no module named {module!r}")
        tree = ast.parse(source.read_bytes(), filename=str(source))
    except (SyntaxError, OSError, ValueError) as error:
        return Peek("", f"{type(error).__name__}: {error}")
    for statement in tree.body:
        for imported in _imports(statement):
            if importlib.util.find_spec(imported) is None:
                return Peek("", f"it imports {imported!r}, which is not installed")
    names = {name for statement in tree.body for name in _bound(statement)}
    if attribute.partition(".")[0] not in names:
        return Peek("", f"module {module!r} defines no {attribute!r}")
    image_size = _literal(tree, attribute, "image_size")
    return Peek(str(_literal(tree, attribute, "summary") or ""), None, image_size if isinstance(image_size, int) else None)


def _source(module: str) -> Path | None:
    """Return the source file of a dotted module without importing its parents; None if there is none."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.origin:
        return None
    file = Path(spec.origin)
    if rest:
        base = file.parent.joinpath(*rest)
        file = base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"
    return file if file.is_file() else None


def _imports(statement: ast.stmt) -> list[str]:
    """Return the top-level packages that a module-level statement imports unconditionally."""
    if isinstance(statement, ast.Import):
        return [alias.name.partition(".")[0] for alias in statement.names]
    if isinstance(statement, ast.ImportFrom) and statement.level == 0 and statement.module:
        return [statement.module.partition(".")[0]]
    return []


def _bound(statement: ast.stmt) -> list[str]:
    """Return the names that a module-level statement defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in statement.names]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [node.id for target in targets if target is not None for node in ast.walk(target) if isinstance(node, ast.Name)]


def _literal(tree: ast.Module, attribute: str, argument: str) -> object:
    """Return the literal `argument` of the call that is assigned to `attribute`, or None."""
    for statement in tree.body:
        value = getattr(statement, "value", None)
        if attribute in _bound(statement) and isinstance(value, ast.Call):
            for keyword in value.keywords:
                if keyword.arg == argument and isinstance(keyword.value, ast.Constant):
                    return keyword.value.value
    return None
