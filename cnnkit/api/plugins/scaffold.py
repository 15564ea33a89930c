"""The scaffold of a plugin: a package that installs, works and passes its tests, made from the templates beside this module."""

from __future__ import annotations

import ast
import keyword
import re
import shutil
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from cnnkit.errors import ConfigError
from cnnkit.files import check_writable
from cnnkit.files.whole import temporary
from cnnkit.registry import ARCHITECTURES, GROUPS, find, noun, short_name

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MAX_NAME_LENGTH = 40
PREFIX = "cnnkit-"
SUFFIX = ".tmpl"  # of a template, so that no tool takes it for a file of cnnkit
DEPENDENCIES = {
    "architectures": ("annotated-types", "cnnkit", "torch"),
    **dict.fromkeys(("sources", "metrics"), ("cnnkit", "numpy")),
    **dict.fromkeys(("losses", "optimizers", "augmentations"), ("cnnkit", "torch")),
}


@dataclass(frozen=True)
class Scaffold:
    """A new package: its name and group, its folder and the files in it."""

    name: str
    group: str
    package: str
    folder: Path
    files: tuple[str, ...]


def new_plugin(name: str, group: str = ARCHITECTURES, *, out: Path = Path()) -> Scaffold:
    """Write a package for the plugin `name` of `group` into a new folder ``cnnkit-NAME`` of `out`.

    Raises `ConfigError` if the name cannot be one, belongs to another plugin, or if the folder exists.
    """
    _check_name(name, group)
    package = f"{PREFIX}{name}"
    folder = out / package
    if folder.exists() or folder.is_symlink():
        raise ConfigError(f"{folder} exists already; choose another name, or another parent folder: --out FOLDER")
    check_writable(out)
    texts = _texts(name, group)
    with temporary(folder) as part:
        try:
            for file, text in texts.items():
                (part / file).parent.mkdir(parents=True, exist_ok=True)
                (part / file).write_text(text, "utf-8", newline="\n")
            part.rename(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return Scaffold(name, group, package, folder, tuple(texts))


def groups_with_templates() -> list[str]:
    """Return the groups for which a scaffold exists, in the order of `GROUPS`."""
    folders = {folder.name for folder in _templates().iterdir() if folder.is_dir()}
    return [group for group in GROUPS if short_name(group) in folders]


def _check_name(name: str, group: str) -> None:
    if not NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        guess = re.sub(r"-+", "-", re.sub(r"[^a-z0-9]+", "-", name.lower())).strip("-")[:MAX_NAME_LENGTH].strip("-")
        hint = f"; for example: cnnkit plugins new {guess}" if NAME.fullmatch(guess) else ""
        raise ConfigError(
            f"{name!r} cannot be the name of a plugin: it must start with a letter and have lower-case letters, digits and single hyphens, "
            f"{MAX_NAME_LENGTH} characters at most{hint}"
        )
    if name.startswith(PREFIX):
        raise ConfigError(
            f"{name!r}: the name of the package gets {PREFIX!r} by itself; type: cnnkit plugins new {name.removeprefix(PREFIX)}"
        )
    if group not in groups_with_templates():
        known = ", ".join(map(short_name, groups_with_templates()))
        raise ConfigError(f"--group {short_name(group)}: there is no scaffold for this group; there is one for {known}")
    for entry in find(group).get(name, ()):
        if entry.is_builtin:
            raise ConfigError(f"{name!r} is the name of a built-in {entry.kind}, which would hide the new one; choose another name")
        if entry.package.lower() != f"{PREFIX}{name}":
            raise ConfigError(f"the installed package {entry.origin} provides the {entry.kind} {name!r}; choose another name")


def _texts(name: str, group: str) -> dict[str, str]:
    """Return the text of every file by its path in the package."""
    identifier, short = name.replace("-", "_"), short_name(group)
    class_name = "".join(map(str.capitalize, name.split("-")))
    values = {
        "name": name,
        "package": f"{PREFIX}{name}",
        "module": f"cnnkit_{identifier}",
        "kind": noun(group),
        "group": group,
        "value": class_name if short == "trackers" else identifier,
        "class_name": class_name,
        "dependencies": ", ".join(f'"{package}"' for package in DEPENDENCIES.get(short, ("cnnkit",))),
    }
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": f"{short}/README.md",
        f"cnnkit_{identifier}.py": f"{short}/module.py",
        f"tests/test_{identifier}.py": f"{short}/test.py",
    }
    templates = {file: Template(_templates().joinpath(*f"{name}{SUFFIX}".split("/")).read_text("utf-8")) for file, name in files.items()}
    value = values["value"]
    if keyword.iskeyword(value) or value in _names(
        templates[f"{values['module']}.py"].substitute(values | {"value": "_", "class_name": "_"})
    ):
        raise ConfigError(f"{name!r}: the module needs the name {value!r} itself; choose another name, such as my-{name}")
    return {file: template.substitute(values) for file, template in templates.items()}


def _names(source: str) -> set[str]:
    """Return every name that a module defines, imports or uses."""
    nodes = [*ast.walk(ast.parse(source))]
    found = {str(getattr(node, field)) for node in nodes for field in ("id", "name", "asname", "arg", "module") if hasattr(node, field)}
    return found | {"annotations"}


def _templates() -> Traversable:
    return resources.files("cnnkit.api.plugins") / "templates"
