from __future__ import annotations

import pytest

from cnnkit.architecture import Option
from cnnkit.config.recipe import recipe_names, resolve
from cnnkit.config.settings import SECTIONS
from cnnkit.tuning.default_space import default_domain, default_names, number_of, option_domain, searchable, usual_options
from cnnkit.tuning.space import Choices, Range

CONFIG = resolve({})


def test_rates_are_searched_a_decade_around_those_of_the_recipe():
    assert default_domain("lr", CONFIG) == Range(2e-4, 2e-2, log=True)
    assert default_domain("lr", resolve({"optim": {"lr": 0.1}})) == Range(0.01, 1.0, log=True)
    assert default_domain("lr", resolve({"optim": {"lr": "auto"}})) == Range(2e-4, 2e-2, log=True)
    assert default_domain("weight_decay", resolve({}, recipe="case-study")) is None, "0 has no decade around it"


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_has_a_default_space(recipe):
    config = resolve({"model": {"weights": "w.safetensors"}} if recipe == "finetune" else {}, recipe=recipe)
    names = default_names(config)
    assert ("layer_decay" in names) == (recipe == "finetune")
    domains = {name: default_domain(name, config) for name in names}
    assert domains["lr"] is not None
    assert domains["augment"] == Choices(("none", "light", "default", "strong"))


def test_a_search_changes_neither_the_images_nor_the_measure():
    found = set(searchable())
    assert {"lr", "batch_size", "arch", "augment", "balance", "patience", "image_size", "freeze_norm"} <= found
    assert not found & {"data", "split", "monitor", "seed", "out", "device", "budget", "set", "min_images"}


def test_the_type_of_a_number_is_that_of_its_setting():
    numbers = {"lr": float, "batch_size": int, "mixup": float, "epochs": int, "rotate": float, "image_size": int}
    assert {name: number_of(name) for name in numbers} == numbers
    for name in ("optimizer", "compile", "zoom", "randaugment", "channels", "arch", "split"):
        assert number_of(name) is None, name


def test_switches_and_words_have_their_values_as_the_default():
    assert default_domain("freeze_norm", CONFIG) == Choices((False, True))
    assert default_domain("optimizer", CONFIG) == Choices(("adam", "adamw", "sgd", "muon"))
    assert default_domain("epochs", CONFIG) is None
    assert default_domain("precision", CONFIG) is None, "a question of speed"


def test_all_default_values_are_values_of_their_setting():
    for name in searchable():
        domain = default_domain(name, CONFIG)
        for value in domain.edges if domain else ():
            section = next(key for key, model in SECTIONS.items() if name in model.model_fields)
            allowed = {"freeze_norm": {"model": {"weights": "w.safetensors"}}}.get(name, {})
            resolve({section: {name: value}} | allowed)


def test_declared_choices_and_ranges_of_an_option_are_its_domain():
    assert option_domain(Option("norm", str, "batch", choices=("batch", "layer"))) == Choices(("batch", "layer"))
    assert option_domain(Option("blocks", int, 3, low=1, high=8)) == Range(1, 8, is_integer=True)
    assert option_domain(Option("width", int, 32, low=1)) is None
    assert option_domain(Option("bias", bool, default=True)) == Choices((False, True))
    assert option_domain(Option("dropout", float, 0.1)) == Range(0.0, 0.6)
    assert option_domain(Option("dropout", float, 0.1, low=0.0, high=0.3)) == Range(0.0, 0.3)


def test_a_default_search_leaves_the_size_of_a_network():
    options = [
        Option("norm", str, "batch", choices=("batch", "layer")),
        Option("blocks", int, 3, low=1, high=8),
        Option("drop_rate", float, 0.0),
    ]
    assert usual_options(options) == {"norm": Choices(("batch", "layer")), "drop_rate": Range(0.0, 0.6)}
