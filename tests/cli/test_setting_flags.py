"""The flags of train and the fields of the configuration: one flag per field."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer

from cnnkit.cli.app import build_app
from cnnkit.cli.setting_flags import PANELS
from cnnkit.config.parsing import flag
from cnnkit.config.recipe import recipe_names
from cnnkit.config.settings import SECTIONS

OWN = {"--recipe", "--config", "--print-config", "--dry-run", "--devices", "--json", "--help", "--help-all"}


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


RUN_A_NETWORK = (
    *("train", "eval", "predict", "export", "doctor", "compare", "report", "explain"),
    *("lr-find", "more-data", "benchmark"),
)


@pytest.mark.parametrize("name", RUN_A_NETWORK)
def test_every_command_that_runs_a_network_has_the_same_flag_of_the_device(name):
    group: Any = typer.main.get_command(build_app())
    (option,) = [each for each in group.commands[name].params if "--device" in each.opts]
    assert (option.help, option.metavar) == (parameters()["--device"].help, "auto|cpu|cuda|mps")


@pytest.mark.parametrize(
    "command",
    [
        ("predict", "images/ants/ants-000.jpg"),
        ("eval", "--split", "val"),
        ("export", "--onnx"),
        ("explain", "images/ants/ants-000.jpg"),
        ("report",),
        ("doctor", "images", "--model", "runs/001-custom-cnn"),
    ],
    ids=lambda words: words[0],
)
def test_a_device_that_is_not_here_is_refused_with_the_usable_ones(command, cli, trained, image_folder, monkeypatch):
    monkeypatch.setattr("cnnkit.engine.runtime.usable_devices", lambda: {"cuda": False, "mps": False, "cpu": True})
    image_folder()
    done = cli(*command, "--device", "cuda")
    assert done.code == 2
    assert re.search(r"--device cuda: torch \S+ finds no such device here; usable: cpu", " ".join(done.err.split()))
    assert not list(trained.run.glob("export/*"))


def test_predictions_on_a_named_cpu_are_those_of_auto(cli, trained):
    file = trained.data / "ants" / "ants-000.jpg"
    named, auto = (cli("predict", file, "--json", *words) for words in (("--device", "cpu"), ()))
    assert (named.code, named.out) == (0, auto.out)


def test_the_doctor_has_no_use_for_a_device_without_a_network(cli, image_folder):
    done = cli("doctor", image_folder(), "--device", "cpu")
    assert done.code == 2
    assert "--device is for the network of --model" in done.err


def test_an_exported_file_takes_no_gpu(cli, trained_export, image_folder):
    done = cli("predict", image_folder(), "--model", trained_export, "--device", "cuda")
    assert done.code == 2
    message = " ".join(done.err.split())
    assert "here has no CUDAExecutionProvider; type: pip install --force-reinstall --no-deps onnxruntime-gpu; or leave out" in message
    assert "to run the original model: --model" in message
