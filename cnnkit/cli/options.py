"""Flags made from the configuration: a field is a flag, its section a panel, its default the help's.

``cnnkit train`` has them all, other commands those they use.

Nothing about a setting is written a second time here, so the two cannot disagree.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BeforeValidator, WrapValidator
from pydantic.fields import FieldInfo

from cnnkit.config.parsing import flag
from cnnkit.config.settings import SECTIONS

PANELS = {"data": "Data", "model": "Model", "optim": "Recipe", "augment": "Augmentation", "stop": "Stopping", "run": "Run"}
SHORT = {"batch_size": "-b", "epochs": "-e", "data": "-d", "arch": "-a", "out": "-o"}


Command = Callable[..., None]
HOMES = {name: key for key, section in SECTIONS.items() for name in section.model_fields}


def with_config_options(command: Command) -> Command:
    """Give `command(given, ...)` a flag for every field of the configuration.

    `given` receives, flat, the values of the flags that were typed; the other parameters of `command` stay flags as
    they are written.
    """
    return with_options(*HOMES)(command)


def with_options(*names: str) -> Callable[[Command], Command]:
    """Give a command a flag for each of the fields `names` of the configuration, as `with_config_options` does for all."""
    return lambda command: _with_flags(command, names)


def _with_flags(command: Command, names: Sequence[str]) -> Command:
    fields = {name: SECTIONS[HOMES[name]].model_fields[name] for name in names}
    own = [parameter for name, parameter in inspect.signature(command, eval_str=True).parameters.items() if name != "given"]

    def wrapper(**values: Any) -> None:
        given = {name: values.pop(name) for name in fields}
        typed = {name: value for name, value in given.items() if value is not None and value != []}
        command(typed, **values)

    made = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(name, field, PANELS[HOMES[name]]))
        for name, field in fields.items()
    ]
    wrapper.__signature__ = inspect.Signature([*made, *[parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in (*made, *own)}
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    return wrapper


def _annotation(name: str, field: FieldInfo, panel: str) -> Any:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    read_by_config = any(isinstance(mark, BeforeValidator | WrapValidator) for mark in field.metadata)  # "10m", "auto": text for Typer
    kind = str if read_by_config else _plain(field.annotation)
    names = [flag(name), *([SHORT[name]] if name in SHORT else [])]
    if kind is bool:
        names[0] += f"/--no-{name.replace('_', '-')}"
    option = typer.Option(
        *names,
        help=field.description,
        rich_help_panel=panel,
        show_default=_shown(field.default),
        metavar=str(extra["metavar"]) if "metavar" in extra else None,
    )
    return Annotated[list[str] | None if name == "set" else kind | None, option]  # type: ignore[valid-type]


def _plain(annotation: Any) -> Any:
    """The type Typer parses: without ``| None``; a tuple arrives as text, which the configuration reads."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    if annotation in {str, int, float, bool, Path} or get_origin(annotation) is Literal:
        if get_origin(annotation) is Literal and all(isinstance(choice, int) for choice in get_args(annotation)):
            return int
        return annotation
    if get_origin(annotation) is tuple or get_origin(annotation) is Annotated:
        return str
    return _plain(parts[0]) if parts else str


def _shown(default: object) -> str | bool:
    """The default as the help shows it; nothing for a setting that is off or chosen by the data."""
    if default in {None, ""} or default == ():
        return False
    if isinstance(default, tuple):
        return "/".join(f"{value:g}" for value in default)
    return str(default).lower() if isinstance(default, bool) else str(default)
