"""The contract of architecture plugins: the values that a package provides, and the options of its `build`.

This module needs the standard library alone, so a plugin that imports `cnnkit` loads nothing that it does not use.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args, get_type_hints

from cnnkit.errors import ConfigError, PluginError, closest

Interpolation = Literal["bilinear", "bicubic"]
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
    """One option of an architecture, which is a keyword of its `build`: name, type and default."""

    name: str
    type: type
    default: bool | int | float | str

    def __str__(self) -> str:
        return f"{self.name}={self.default}"


def options(architecture: Architecture, name: str) -> dict[str, Option]:
    """Return the options of `architecture` by name, from the signature of its `build`; see `options_of`."""
    return options_of(architecture.build, f"architecture {name!r}", "build")


def options_of(function: Callable[..., Any], owner: str, role: str) -> dict[str, Option]:
    """Return the options of `function` by name: its keyword-only parameters. It is the `role` of `owner`, as messages name them.

    Raises `PluginError` if the signature cannot be read, or if a keyword has no default or a type that ``--set`` cannot read.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise PluginError(f"{owner}: the signature of its {role} cannot be read ({error}); write {role} as a function") from None
    found = {}
    for parameter in parameters:
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        kind, default = _type_of(parameter, function), parameter.default
        if kind is None or not isinstance(default, bool | int | float | str | None):
            raise PluginError(
                f"{owner}: option {parameter.name!r} of its {role} needs a default and the type bool, int, "
                f"float or str (it is {str(parameter).partition(':')[2].strip() or 'without both'})"
            )
        found[parameter.name] = Option(parameter.name, kind, cast("Any", default))
    return found


def _type_of(parameter: inspect.Parameter, function: Callable[..., Any]) -> type | None:
    """Return the type of an option: that of its annotation, else that of its default; None if ``--set`` cannot read the type.

    Only the annotation of the option is resolved. Others, such as ``-> nn.Module`` below ``if TYPE_CHECKING:``, may name unknown types.
    """
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        annotation = type(parameter.default)
    if isinstance(annotation, str) and annotation not in OPTION_TYPES:
        try:
            annotation = get_type_hints(function).get(parameter.name)
        except Exception:  # noqa: BLE001 (an annotation is an expression, which may raise anything)
            return None
    return OPTION_TYPES.get(annotation if isinstance(annotation, str) else getattr(annotation, "__name__", ""))


def option_name(setting: str) -> str:
    """Return the name of the option in a setting: ``drop_rate`` for ``"drop-rate=0.1"``."""
    return setting.partition("=")[0].strip().replace("-", "_")


def parse_options(architecture: Architecture, name: str, settings: Iterable[str]) -> dict[str, bool | int | float | str]:
    """Return the keywords for `build` from settings such as ``["width=64", "dropout=0.1"]``, including the defaults.

    Raises `ConfigError` for a setting without ``=``, an unknown option (with the list of options) or a value of the wrong
    type.
    """
    return read_options(options(architecture, name), settings, ("architecture", name), flag="--set ", example="--set width=64")


def read_options(
    known: Mapping[str, Option], settings: Iterable[str], owner: tuple[str, str], *, flag: str, example: str
) -> dict[str, bool | int | float | str]:
    """Return the values of the `known` options, with `settings` such as ``"width=64"`` in place of defaults.

    `owner` is the kind and the name of the options' owner. A message shows a setting after `flag`, as the user typed it, and an `example`
    of a right one. Raises `ConfigError` as `parse_options` does.
    """
    values = {option.name: option.default for option in known.values()}
    for setting in settings:
        key = option_name(setting)
        _, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"{flag}{setting!r}: expected name=value, such as {example}")
        if key not in known:
            listed = ", ".join(str(option) for option in known.values()) or "none"
            raise ConfigError(f"{flag}{key}: {owner[0]} {owner[1]!r} has no option {key!r}{closest(key, known)} Its options: {listed}")
        values[key] = _parse(known[key], text.strip(), owner[1], flag)
    return values


def _parse(option: Option, text: str, name: str, flag: str) -> bool | int | float | str:
    if option.type is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() in words:
            return words[text.lower()]
    else:
        try:
            return option.type(text)
        except ValueError:
            pass
    allowed = "true or false" if option.type is bool else f"of type {option.type.__name__}"
    raise ConfigError(f"{flag}{option.name}={text}: option {option.name!r} of {name!r} must be {allowed} (default {option.default})")


INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)
