"""The flags of train and the fields of the configuration: one flag per field."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from cnnkit.cli.app import build_app
from cnnkit.cli.options import PANELS
from cnnkit.config.parsing import flag
from cnnkit.config.recipe import recipe_names
from cnnkit.config.settings import SECTIONS

OWN = {"--recipe", "--config", "--print-config", "--dry-run", "--json", "--help", "--help-all"}


def parameters() -> dict[str, Any]:
    group: Any = typer.main.get_command(build_app())
    command = group.commands["train"]
    return {option: parameter for parameter in command.params for option in parameter.opts if option.startswith("--")}


def test_every_field_is_a_flag_and_every_flag_a_field():
    fields = {flag(name) for section in SECTIONS.values() for name in section.model_fields}
    assert set(parameters()) - OWN == fields


def test_every_flag_has_help_a_panel_and_the_default_of_its_field():
    shown = parameters()
    for key, section in SECTIONS.items():
        for name, field in section.model_fields.items():
            option = shown[flag(name)]
            assert option.help == field.description
            assert option.help.endswith(".") or ":" in option.help
            assert option.rich_help_panel == PANELS[key]
            if field.default not in (None, "", ()) and field.default is not False:
                first = field.default[0] if isinstance(field.default, tuple) else field.default
                assert str(first).lower().removesuffix(".0") in str(option.show_default)


def test_no_field_belongs_to_two_sections():
    names = [name for section in SECTIONS.values() for name in section.model_fields]
    assert len(names) == len(set(names))


def test_the_help_of_recipe_names_all_recipes():
    assert all(name in parameters()["--recipe"].help for name in recipe_names())


@pytest.mark.parametrize(
    ("given", "split"), [("val", "val"), ("valid", "val"), ("eval", "val"), ("Testing", "test"), ("training", "train")]
)
def test_a_split_goes_by_any_of_its_aliases(cli, trained, given, split):
    assert cli("eval", "--split", given, "--json").json()["split"] == split


def test_another_split_is_refused_with_the_allowed_splits(cli):
    for command in ("eval", "report", "compare"):
        result = cli(command, "--split", "trian")
        assert result.code == 2
        assert "'trian' is no split; allowed: train, val, test" in result.err
