"""Flags made from the settings: a field of the configuration becomes a flag, its section a panel, and its default that of the help.

The configuration alone defines a setting, so configuration and command line cannot disagree.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BeforeValidator, WrapValidator
from pydantic.fields import FieldInfo

from cnnkit.cli.help import MAX_FLAGS, HelpAllFlag
from cnnkit.config.parsing import flag
from cnnkit.config.settings import SECTION_OF, SECTIONS, RunConfig

PANELS = {"data": "Data", "model": "Model", "optim": "Recipe", "augment": "Augmentation", "stop": "Stopping", "run": "Run"}
SHORT = {"batch_size": "-b", "epochs": "-e", "data": "-d", "arch": "-a", "out": "-o"}
HELP_ALL = "help_all"

REPEATED = {"set", "augment_with"}  # flags that may be typed several times

Command = Callable[..., None]


def device_of(given: Mapping[str, Any]) -> str:
    """Return the value of ``--device`` in the typed flags `given`, or its default."""
    return RunConfig.model_validate({name: value for name, value in given.items() if name == "device"}).device


def with_config_options(command: Command) -> Command:
    """Give `command(given, ...)` a flag for every field of the configuration.

    `given` receives the values of the typed flags by field name. The other parameters of `command` stay flags of their own.
    """
    return with_options(*SECTION_OF)(command)


def with_options(*names: str) -> Callable[[Command], Command]:
    """Give a command a flag for each of the fields `names` of the configuration; see `with_config_options`."""
    return lambda command: _with_flags(command, names)


def _with_flags(command: Command, names: Sequence[str]) -> Command:
    fields = {name: SECTIONS[SECTION_OF[name]].model_fields[name] for name in names}
    own = [parameter for name, parameter in inspect.signature(command, eval_str=True).parameters.items() if name != "given"]

    def wrapper(**values: Any) -> None:
        values.pop(HELP_ALL, None)
        given = {name: values.pop(name) for name in fields}
        typed = {name: value for name, value in given.items() if value is not None and value != []}
        command(typed, **values)

    made = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(name, field, PANELS[SECTION_OF[name]]))
        for name, field in fields.items()
    ]
    if len(made) + len(own) > MAX_FLAGS:
        made.append(inspect.Parameter(HELP_ALL, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=HelpAllFlag))
    wrapper.__signature__ = inspect.Signature([*made, *[parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in (*made, *own)}
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    common = (name for name, field in fields.items() if _extra(field).get("common"))
    wrapper.common_flags = frozenset([*(parameter.name for parameter in own), *common])  # type: ignore[attr-defined]
    return wrapper


def _annotation(name: str, field: FieldInfo, panel: str) -> Any:
    # the configuration reads values such as "10m" and "auto" itself, so Typer passes them on as text
    read_by_config = any(isinstance(mark, BeforeValidator | WrapValidator) for mark in field.metadata)
    kind = str if read_by_config else _plain(field.annotation)
    names = [flag(name), *([SHORT[name]] if name in SHORT else [])]
    if kind is bool:
        names[0] += f"/--no-{name.replace('_', '-')}"
    option = typer.Option(
        *names,
        help=field.description,
        rich_help_panel=panel,
        show_default=_default_text(field.default),
        metavar=str(_extra(field).get("metavar") or "|".join(map(str, get_args(kind)))) or None,
    )
    return Annotated[list[str] | None if name in REPEATED else kind | None, option]  # type: ignore[valid-type]


def _extra(field: FieldInfo) -> dict[str, Any]:
    return dict(field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else {}


def _plain(annotation: Any) -> Any:
    """Return the type for Typer, without ``| None``; a tuple becomes text, which the configuration reads."""
    members = [member for member in get_args(annotation) if member is not type(None)]
    if annotation in {str, int, float, bool, Path} or get_origin(annotation) is Literal:
        if get_origin(annotation) is Literal and all(isinstance(choice, int) for choice in get_args(annotation)):
            return int
        return annotation
    if get_origin(annotation) is tuple or get_origin(annotation) is Annotated:
        return str
    return _plain(members[0]) if members else str


def _default_text(default: object) -> str | bool:
    """Return the default for the help; False for a switch that is off and a setting that follows from the data."""
    if default is None or default is False or default in {"", ()}:
        return False
    if isinstance(default, tuple):
        return "/".join(f"{value:g}" for value in default)
    if default is True:
        return "true"
    return f"{default:g}" if isinstance(default, float) else str(default)
