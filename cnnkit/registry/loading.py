"""The loading of an entry: the import of its object, and the check of an architecture or a family."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from itertools import islice
from typing import Any

from cnnkit.architecture import INTERPOLATIONS, Architecture, Family, Pretrained, build_keywords, options
from cnnkit.errors import PluginError, closest
from cnnkit.registry.entries import ARCHITECTURES, Entry, choose, find
from cnnkit.registry.fence import fence, fenced
from cnnkit.registry.peek import is_family

MAX_MEMBERS = 100_000  # of a family; timm has about 1,300
MAX_IMAGE_SIZE = 16_384  # px; a larger image has no room in the memory of a device


def load(group: str, name: str, path: Iterable[str] | None = None, *, built_in: Iterable[str] = ()) -> tuple[Any, Entry]:
    """Import the object of entry `name` in `group`; return the object and the entry. For the other arguments, see `choose`.

    Raises `PluginError` if the name is unknown, belongs to several packages or fails to import. The error names the closest
    names, all packages, or package, version and cause. The functions of an architecture or a family run inside the fence.
    """
    entry = choose(group, name, path, built_in=built_in)
    with fence(entry, "does not load"):
        found = metadata.EntryPoint(entry.name, entry.value, group).load()
    if isinstance(found, Family):
        return _fenced_family(found, entry), entry
    return (fenced_architecture(found, entry) if isinstance(found, Architecture) else found), entry


def load_architecture(name: str, path: Iterable[str] | None = None) -> tuple[Architecture, Entry]:
    """Return the architecture `name`, which may be a ``family/member``, and its entry.

    Raises `PluginError` as `load` does, and if the entry is not an `Architecture` or the family does not have the member.
    """
    family, slash, member = name.partition("/")
    if not slash and ":" not in family and family not in find(ARCHITECTURES, path):
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


def load_problem(group: str, name: str) -> str | None:
    """Load an entry, its options if it is an architecture, and its members if it is a family; return the problem, or None."""
    try:
        found, entry = load_architecture(name) if "/" in name else load(group, name)
        if isinstance(found, Family):
            return None if any(True for _ in found.members()) else f"family {name!r} of {entry.origin} has no members"
        if group == ARCHITECTURES:
            options(load_architecture(name)[0], name)
    except PluginError as error:
        return str(error)
    return None


def fenced_architecture(architecture: Architecture, entry: Entry) -> Architecture:
    """Return `architecture` with its functions inside the fence; `build` then returns an `nn.Module` or raises `PluginError`.

    Raises `PluginError` for a field with a value that the contract does not allow.
    """
    for field, is_allowed, allowed in _FIELDS:
        value = getattr(architecture, field)
        if not is_allowed(value):
            _refuse(entry, field, value, allowed)
    weights = architecture.pretrained
    if weights is not None:
        for field, is_allowed, allowed in _WEIGHT_FIELDS:
            value = getattr(weights, field)
            if not is_allowed(value):
                _refuse(entry, f"pretrained.{field}", value, allowed)
        weights = replace(weights, fetch=_fenced_fetch(weights.fetch, entry))
    return replace(architecture, build=_fenced_build(architecture.build, entry), pretrained=weights)


def _fenced_build(build: Callable[..., Any], entry: Entry) -> Callable[..., Any]:
    def checked(num_classes: int, in_channels: int, **options: Any) -> Any:
        keywords = build_keywords(build, entry.name, options)
        settings = ", ".join(f"{name}={value}" for name, value in options.items())
        task = f"for {num_classes} classes and {in_channels} channels with {settings or 'no options'}"
        with fence(entry, f"cannot be built {task}", remedy="its options: cnnkit archs show NAME"):
            network = build(num_classes, in_channels, **keywords)
        torch = sys.modules.get("torch")  # without it, nothing can be a module
        if torch is None or not isinstance(network, torch.nn.Module):
            raise PluginError(
                f"architecture {entry.name!r} of {entry.origin}: its build returns a {type(network).__name__}, not a torch.nn.Module"
            )
        return network

    with suppress(AttributeError):  # a callable object has no name, and its signature is that of its type
        checked.__name__ = build.__name__
    checked.__wrapped__ = build  # pyright: ignore[reportFunctionMemberAccess] (the signature is that of build, PEP 362)
    return checked


def _fenced_fetch(fetch: Callable[[], Mapping[str, Any]], entry: Entry) -> Callable[[], Mapping[str, Any]]:
    guarded = fenced(entry, "cannot fetch its weights", fetch, allowed=(OSError,))

    def checked() -> Mapping[str, Any]:
        weights = guarded()
        if not isinstance(weights, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] (a plugin may return anything)
            raise PluginError(
                f"architecture {entry.name!r} of {entry.origin}: its fetch returns a {type(weights).__name__}, not a state dict"
            )
        return weights

    return checked


def _fenced_family(family: Family, entry: Entry) -> Family:
    """Return `family` with its functions inside the fence, each member an architecture inside the fence too."""

    def members() -> list[str]:
        with fence(entry, "cannot list its members"):
            names = list(islice(family.members(), MAX_MEMBERS))
        if wrong := [name for name in names if not isinstance(name, str)]:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise PluginError(f"family {entry.name!r} of {entry.origin} has a member {wrong[0]!r}, which is no text")
        return names

    def get(member: str) -> Architecture:
        with fence(entry, f"cannot load its member {member!r}", allowed=(KeyError,)):
            found = family.get(member)
        if not isinstance(found, Architecture):  # pyright: ignore[reportUnnecessaryIsInstance] (a plugin may return anything)
            raise PluginError(f"member {member!r} of family {entry.name!r} of {entry.origin} is a {type(found).__name__}")
        return fenced_architecture(found, entry)

    return replace(family, members=members, get=get)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_IMAGE_SIZE


def _are_three(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 3 and all(map(_is_number, value))  # noqa: PLR2004 (RGB)


_Check = tuple[str, Callable[[Any], bool], str]
_SIZE = f"a whole number of pixels from 1 to {MAX_IMAGE_SIZE}"
_FIELDS: tuple[_Check, ...] = (
    ("build", callable, "a function"),
    ("summary", lambda value: isinstance(value, str), "text"),
    ("image_size", _is_size, _SIZE),
    ("reference", lambda value: isinstance(value, str), "text"),
    ("pretrained", lambda value: isinstance(value, Pretrained | None), "a cnnkit.Pretrained or None"),
    ("cam_layer", lambda value: isinstance(value, str | None), "text or None"),
)
_WEIGHT_FIELDS: tuple[_Check, ...] = (
    ("fetch", callable, "a function"),
    ("place", lambda value: isinstance(value, str), "text"),
    ("image_size", _is_size, _SIZE),
    ("mean", _are_three, "three numbers"),
    ("std", lambda value: _are_three(value) and min(value) > 0, "three numbers above 0"),
    ("interpolation", lambda value: value in INTERPOLATIONS, f"one of {', '.join(INTERPOLATIONS)}"),
    ("crop", lambda value: _is_number(value) and 0 < value <= 1, "a share above 0 and at most 1"),
)


def _refuse(entry: Entry, field: str, value: object, allowed: str) -> None:
    with fence(entry, f"has a field {field} that cannot be shown"):
        shown = repr(value)[:60]
    raise PluginError(f"architecture {entry.name!r} of {entry.origin}: {field} is {shown}; it must be {allowed}")


def _refuse_member(name: str, path: Iterable[str] | None) -> None:
    """Raise `PluginError` if `name` is a member of a family and lacks the family's name, such as ``resnet18`` of timm.

    Only entries that are families by their source are loaded, and a family that fails is passed over.
    """
    matches: list[str] = []
    for family, entries in find(ARCHITECTURES, path).items():
        if len(entries) > 1 or not is_family(entries[0]):
            continue
        with suppress(PluginError, KeyError):  # another name was asked for
            found, _ = load(ARCHITECTURES, family, path)
            found.get(name)
            matches.append(f"{family}/{name}")
    if matches:
        listed = " or ".join(f"--arch {match}" for match in matches)
        raise PluginError(f"no architecture named {name!r} is installed, but a family has it; type: {listed}")
