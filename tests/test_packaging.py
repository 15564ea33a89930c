"""The package says of itself what is true: version, dependencies, licence, change log, recipes."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import pytest

import cnnkit
from cnnkit import registry

CHECKOUT = Path(__file__).resolve().parent.parent
PYPROJECT = CHECKOUT / "pyproject.toml"
PROJECT: dict[str, Any] = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]


def distribution(requirement: str) -> str:
    """``pyright[nodejs]>=1.1.400`` -> ``pyright``, ``tomli_w`` -> ``tomli-w``."""
    return re.split(r"[\[<>=~! ;]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_installed_version_is_the_one_of_pyproject() -> None:
    assert metadata.version("cnnkit") == PROJECT["version"], "install the checkout again: .venv/bin/pip install -e ."


def test_change_log_starts_with_this_version_or_with_what_is_to_come() -> None:
    first = next(line for line in (CHECKOUT / "CHANGELOG.md").read_text("utf-8").splitlines() if line.startswith("## "))
    assert "unreleased" in first.lower() or PROJECT["version"] in first, f"CHANGELOG.md starts with {first!r}"


def test_every_dependency_has_a_floor_and_a_reason() -> None:
    extras = [requirement for listed in PROJECT["optional-dependencies"].values() for requirement in listed]
    text = PYPROJECT.read_text("utf-8")
    for requirement in [*PROJECT["dependencies"], *extras]:
        lines = [line for line in text.splitlines() if f'"{requirement}"' in line]
        assert any(re.search(r"#\s*\S+", line) for line in lines), f"pyproject.toml: say beside {requirement!r} what it is needed for"
        assert ">=" in requirement or distribution(requirement) == "cnnkit", f"pyproject.toml: {requirement!r} names no oldest version"


def test_every_imported_package_is_declared() -> None:
    everything = [*PROJECT["dependencies"], *(one for listed in PROJECT["optional-dependencies"].values() for one in listed)]
    declared = {distribution(requirement) for requirement in everything}
    providers = metadata.packages_distributions()
    for file in Path(cnnkit.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"cnnkit"}:
                provided_by = {distribution(name) for name in providers.get(top, [top])}
                assert provided_by & declared, f"{file.name} imports {top}, which pyproject.toml does not declare"


def test_licence_is_the_one_declared() -> None:
    assert PROJECT["license"] == "MIT"
    assert (CHECKOUT / "LICENSE").read_text("utf-8").startswith("MIT License\n\nCopyright (c) 2026 The cnnkit authors\n")


def test_recipes_travel_with_the_package() -> None:
    recipes = {path.name: path.read_text("utf-8") for path in resources.files("cnnkit.config").joinpath("recipes").iterdir()}
    assert {"default.toml", "case-study.toml", "finetune.toml"} <= set(recipes)
    assert tomllib.loads(recipes["case-study.toml"])


def test_package_is_typed() -> None:
    assert resources.files("cnnkit").joinpath("py.typed").is_file()


@pytest.mark.parametrize("group", ["cnnkit.architectures", "cnnkit.exporters", "cnnkit.trackers"])
def test_entry_points_of_pyproject_are_installed_and_load(group: str) -> None:
    for name in PROJECT["entry-points"][group]:
        _, entry = registry.load(group, name)
        assert entry.package == "cnnkit"


def test_the_version_has_a_name_in_python() -> None:
    assert cnnkit.__version__ == PROJECT["version"]
    assert {"__version__", "load_model", "train"} <= set(dir(cnnkit))
