"""The contract of architecture plugins: the values that a package provides, and the options of its `build`.

This module needs the standard library alone, so a plugin that imports `cnnkit` loads nothing that it does not use.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from math import ceil, floor, inf, isfinite, nextafter
from types import SimpleNamespace
from typing import Annotated, Any, Literal, TypeAlias, cast, get_args, get_origin, get_type_hints

from cnnkit.errors import ConfigError, PluginError, closest

Interpolation = Literal["bilinear", "bicubic"]
OptionValue: TypeAlias = bool | int | float | str
OPTION_TYPES: dict[str, type] = {kind.__name__: kind for kind in (bool, int, float, str)}  # that ``--set`` can read


@dataclass(frozen=True)
class Pretrained:
    """Published weights of one architecture and the preprocessing they were trained with.

    `fetch` may use the internet: it is called only for ``--weights pretrained``. It returns a state dict, or raises `OSError`
    if the weights are not available; `place` then names the file to fetch by hand. `mean` and `std` are per channel (RGB)
    on the [0, 1] scale. `crop` is the share of the short edge that is kept.
    """

    fetch: Callable[[], Mapping[str, Any]]
    place: str
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    crop: float = 1.0


@dataclass(frozen=True)
class Architecture:
    """A named way to build a network.

    `build(num_classes, in_channels, *, option=default, ...)` returns an `nn.Module` that maps images (N, C, H, W) to
    logits (N, K). The keyword-only parameters are the schema of ``--set option=value``. `image_size` is the width and
    height in pixels that the architecture is meant for; smaller images are not scaled up to it. `cam_layer` is the name in
    `named_modules()` of the module whose maps `cnnkit explain` shows; None chooses one automatically.
    """

    build: Callable[..., Any]
    summary: str
    image_size: int
    reference: str = ""
    pretrained: Pretrained | None = None
    cam_layer: str | None = None


@dataclass(frozen=True)
class Family:
    """One entry point that yields many architectures: ``timm/resnet18`` is member ``resnet18`` of family ``timm``.

    `members()` lists the names; `get(member)` returns the architecture or raises `KeyError`.
    """

    members: Callable[[], Iterable[str]]
    get: Callable[[str], Architecture]
    summary: str


@dataclass(frozen=True)
class Option:
    """One option of an architecture, which is a keyword of its `build`: name, type and default.

    `choices` lists the allowed values; if it is empty, there is no list. `low` and `high` are the smallest and the largest allowed
    number; None is no limit. `limits` says the same in words. `enum` is the class of an option whose `build` expects a member of an
    `Enum`; here and in files, such an option has the plain value of the member.
    """

    name: str
    type: type
    default: OptionValue
    choices: tuple[OptionValue, ...] = ()
    low: float | None = None
    high: float | None = None
    limits: str = ""
    enum: type[Enum] | None = None

    def __str__(self) -> str:
        return f"{self.name}={self.default}"

    @property
    def allowed(self) -> str:
        """The allowed values in words, which follow "must be"."""
        if self.choices:
            return self.limits
        return ", ".join(filter(None, ("true or false" if self.type is bool else f"of type {self.type.__name__}", self.limits)))

    def allows(self, value: object) -> bool:
        """Return True if `value` has the type of the option, is one of its choices and lies in its range."""
        if type(value) is not self.type and not (self.type is float and type(value) is int):
            return False
        if self.choices:
            return value in self.choices
        if not isinstance(value, int | float):
            return True
        return isfinite(value) and (self.low is None or self.low <= value) and (self.high is None or value <= self.high)

    def nearest(self, text: str) -> str:
        """Return the end of a sentence that names the choice nearest to `text`, or an empty text."""
        if self.type is str:
            return closest(text, map(str, self.choices)).removesuffix(".")
        with suppress(ValueError):
            number = float(text)
            if self.choices and isfinite(number):
                return f"; the nearest is {min(self.choices, key=lambda choice: abs(float(choice) - number))}"
        return ""


def options(architecture: Architecture, name: str) -> dict[str, Option]:
    """Return the options of `architecture` by name, from the signature of its `build`.

    Raises `PluginError` if the signature cannot be read, or if a keyword has no default or a type that ``--set`` cannot read.
    """
    return read_options(architecture.build, f"architecture {name!r}", "its build")


def read_options(call: Callable[..., Any], owner: str, subject: str) -> dict[str, Option]:
    """Return the keyword-only parameters of `call` as options by name; messages say that `call` is the `subject` of the `owner`.

    ``Literal["batch", "layer"]`` and an `Enum` give choices. ``Annotated[int, Ge(1), Le(8)]`` or ``Interval(ge=1, le=8)`` of the package
    annotated-types gives a range, and so does ``Field(ge=1)`` of pydantic.
    """
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError) as error:
        named = subject.rpartition(" ")[2]
        raise PluginError(f"{owner}: the signature of {subject} cannot be read ({error}); write {named} as a function") from None
    return {
        parameter.name: _option(parameter, call, f"{owner}: option {parameter.name!r} of {subject}")
        for parameter in parameters
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _option(parameter: inspect.Parameter, call: Callable[..., Any], subject: str) -> Option:
    annotation, constraints = _annotation(parameter, call)
    enum = annotation if isinstance(annotation, type) and issubclass(annotation, Enum) else None
    default = parameter.default.value if enum and isinstance(parameter.default, enum) else parameter.default
    listed = get_args(annotation) if get_origin(annotation) is Literal else ()
    choices = tuple(member.value for member in enum) if enum else listed
    kinds = [*{type(choice) for choice in choices}] or [annotation]
    kind = kinds[0] if len(kinds) == 1 else None
    if kind not in OPTION_TYPES.values() or not isinstance(default, bool | int | float | str | None):
        given = str(parameter).partition(":")[2].strip() or "without both"
        raise PluginError(
            f"{subject} needs a default and the type bool, int, float or str, or a Literal or Enum of one of them (it is {given})"
        )
    low, high, words = (None, None, "") if choices else _limits(constraints, cast("type", kind), subject)
    words = f"one of {', '.join(map(str, choices))}" if choices else words
    option = Option(parameter.name, cast("type", kind), cast("Any", default), choices, low, high, words, enum)
    if words and not option.allows(default):
        raise PluginError(f"{subject} has the default {default!r}, which is not {words}")
    return option


def _annotation(parameter: inspect.Parameter, call: Callable[..., Any]) -> tuple[Any, list[object]]:
    """Return the type of an option and what ``Annotated`` adds to it: of its annotation, else of its default; None if it has no type.

    Only the annotation of the option is resolved. Others, such as ``-> nn.Module`` below ``if TYPE_CHECKING:``, may name unknown types.
    """
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return type(parameter.default), []
    if isinstance(annotation, str):
        if annotation in OPTION_TYPES:
            return OPTION_TYPES[annotation], []
        function: Any = inspect.unwrap(call)
        function = getattr(function, "func", function)  # of functools.partial
        names = getattr(function if hasattr(function, "__globals__") else type(function).__call__, "__globals__", {})
        holder = cast("Any", SimpleNamespace(__annotations__={parameter.name: annotation}))
        try:
            annotation = get_type_hints(holder, names, include_extras=True)[parameter.name]
        except Exception:  # noqa: BLE001 (an annotation is an expression, which may raise anything)
            return None, []
    if get_origin(annotation) is Annotated:
        return annotation.__origin__, [*annotation.__metadata__]
    return annotation, []


def _limits(constraints: Iterable[object], kind: type, subject: str) -> tuple[float | None, float | None, str]:
    """Return the smallest and the largest number that the `constraints` of an annotation allow, and the range in words.

    A constraint is any object with the attributes ``ge``, ``gt``, ``le`` or ``lt``, such as those of annotated-types. Python ignores other
    objects in an annotation (PEP 593).
    """
    found: dict[str, float] = {}
    for constraint in _flat(constraints):
        for name in _BOUNDS:
            bound = getattr(constraint, name, None)
            if bound is None:
                continue
            if kind not in {int, float} or not isinstance(bound, int | float):
                raise PluginError(f"{subject} has the limit {name}={bound!r}; a limit is a number, and the type is then int or float")
            found[name] = (max if name in {"ge", "gt"} else min)(bound, found.get(name, bound))
    if not found:
        return None, None, ""
    lows = [_inner(found[name], kind, inf if name == "gt" else None) for name in ("ge", "gt") if name in found]
    highs = [_inner(found[name], kind, -inf if name == "lt" else None) for name in ("le", "lt") if name in found]
    low, high = max(lows, default=None), min(highs, default=None)
    if low is not None and high is not None and low > high:
        raise PluginError(f"{subject} has an empty range: its smallest value is {low}, and its largest is {high}")
    if found.keys() == {"ge", "le"}:
        return low, high, f"from {found['ge']} to {found['le']}"
    return low, high, " and ".join(f"{words} {found[name]}" for name, words in _BOUNDS.items() if name in found)


def _flat(constraints: Iterable[object]) -> Iterator[object]:
    """Yield the `constraints` one by one; pydantic's ``Field`` holds others in its list ``metadata``."""
    for constraint in constraints:
        inner = getattr(constraint, "metadata", None)
        yield from inner if isinstance(inner, list) else [constraint]


def _inner(bound: float, kind: type, towards: float | None) -> float:
    """Return the allowed number nearest to `bound`: `bound` itself, or the next one `towards` the inside of the range."""
    if kind is int:
        if towards is None:
            return bound if isinstance(bound, int) else ceil(bound)
        return floor(bound) + 1 if towards > 0 else ceil(bound) - 1
    return float(bound) if towards is None else nextafter(bound, towards)


def option_name(setting: str) -> str:
    """Return the name of the option in a setting: ``drop_rate`` for ``"drop-rate=0.1"``."""
    return setting.partition("=")[0].strip().replace("-", "_")


def parse_options(architecture: Architecture, name: str, settings: Iterable[str]) -> dict[str, OptionValue]:
    """Return the keywords for `build` from settings such as ``["width=64", "dropout=0.1"]``, including the defaults.

    Raises `ConfigError` for a setting without ``=``, an unknown option (with the list of options) or a value that is not allowed.
    """
    return parse_settings(options(architecture, name), f"architecture {name!r}", settings)


def parse_settings(
    known: Mapping[str, Option], owner: str, settings: Iterable[str], *, flag: str = "--set ", example: str = "--set width=64"
) -> dict[str, OptionValue]:
    """Return the values of the options `known` of the `owner` from settings such as ``["width=64"]``, including the defaults.

    A message shows a setting after `flag`, as the user typed it, and an `example` of a right one. Raises `ConfigError` as
    `parse_options` does.
    """
    values = {option.name: option.default for option in known.values()}
    for setting in settings:
        key = option_name(setting)
        _, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"{flag}{setting!r}: expected name=value, such as {example}")
        if key not in known:
            listed = ", ".join(str(option) for option in known.values()) or "none"
            raise ConfigError(f"{flag}{key}: {owner} has no option {key!r}{closest(key, known)} Its options: {listed}")
        values[key] = _parse(known[key], text.strip(), owner, flag)
    return values


def reads_back(option: Option) -> bool:
    """Return True if a flag can set `option` to its default."""
    try:
        return parse_settings({option.name: option}, "", [str(option)])[option.name] == option.default
    except ConfigError:
        return False


def _parse(option: Option, text: str, owner: str, flag: str) -> OptionValue:
    value: Any = None
    if option.type is bool:
        value = _WORDS_OF_BOOL.get(text.lower())
    else:
        with suppress(ValueError):
            value = option.type(text)
    if not option.allows(value):
        raise _refusal(option, text, owner, flag)
    return value


def _refusal(option: Option, text: str, owner: str, flag: str) -> ConfigError:
    near = option.nearest(text)
    return ConfigError(
        f"{flag}{option.name}={text}: option {option.name!r} of {owner} must be {option.allowed} (default {option.default}){near}"
    )


def build_keywords(build: Callable[..., Any], name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords for a call of `build` from plain `values`: options of an `Enum` become members.

    Raises `ConfigError` for a value outside the choices or the range of its option, which may come from a file or from Python.
    """
    owner = f"architecture {name!r}"
    return option_keywords(read_options(build, owner, "its build"), owner, values)


def option_keywords(known: Mapping[str, Option], owner: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords for a function of the `owner` with the options `known`, as `build_keywords` does for a `build`."""
    keywords = dict(values)
    for key in known.keys() & keywords.keys():
        option, value = known[key], keywords[key]
        if option.limits and not (option.enum and isinstance(value, option.enum)):
            if not option.allows(value):
                raise _refusal(option, str(value), owner, "--set ")
            keywords[key] = option.enum(value) if option.enum else value
    return keywords


_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}  # the attributes of annotated-types, in words
_WORDS_OF_BOOL = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)
