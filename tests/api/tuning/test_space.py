from __future__ import annotations

from pathlib import Path

import pytest

from cnnkit.api.tuning.space import Layers, baseline, read_space
from cnnkit.errors import ConfigError
from cnnkit.tuning.space import Choices, Range

LAYERS = Layers({"data": "digits"})


def refusal(layers: Layers = LAYERS, **given) -> str:
    with pytest.raises(ConfigError) as refused:
        read_space(layers, **given)
    return str(refused.value)


def test_without_words_the_recipe_gives_the_space():
    space = read_space(LAYERS)
    assert space.settings == ("lr", "weight_decay", "label_smoothing", "augment", "mixup")
    assert space.options_of("custom-cnn") == ("dropout",)
    assert "mixup" not in read_space(Layers({"mixup": 0.2})).domains, "a flag fixes it"
    assert read_space(Layers({"set": ["dropout=0.1"]})).options_of("custom-cnn") == ()


def test_a_search_names_settings_and_options_alike():
    space = read_space(LAYERS, words=["lr=1e-4..1e-2:log", "width=32,64", "dropout", "optimizer=adam,sgd"])
    assert space.settings == ("lr", "optimizer")
    assert space.options_of("custom-cnn") == ("width", "dropout")
    assert space.domains["width"] == Choices((32, 64))
    assert isinstance(space.domains["dropout"], Range)


def test_an_option_needs_one_of_the_searched_architectures():
    space = read_space(LAYERS, words=["arch=custom-cnn,residual-cnn", "blocks=2,3"])
    assert space.settings == ("arch",)
    assert space.options_of("custom-cnn") == ("blocks",)
    assert "dense" in read_space(LAYERS, words=["arch=custom-cnn,residual-cnn", "dense=32,64"]).options_of("custom-cnn")


def test_a_file_and_flags_share_one_grammar_and_the_flag_wins():
    Path("space.toml").write_text('lr = "1e-4..1e-2:log"\nwidth = [32, 64]\nzoom = ["0.9,1.1", "0.8,1.2"]\n')
    space = read_space(LAYERS, words=["lr=1e-3,1e-2"], file=Path("space.toml"))
    assert space.to_dict() == {"lr": "0.001,0.01", "width": "32,64", "zoom": "0.9,1.1,0.8,1.2"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ler=1..2"], "--search ler: neither a setting nor an option of custom-cnn; did you mean"),
        (["widht=32,64"], "did you mean 'width' or 'weights'? For its options type: cnnkit archs show custom-cnn"),
        (["split=0.7/0.15/0.15,0.8/0.1/0.1"], "a search does not change --split, because its trials must see the same images"),
        (["monitor=val_loss,val_accuracy"], "a search does not change --monitor"),
        (["epochs"], "epochs has no default range; type one: epochs=LOW..HIGH"),
        (["lr=-1..1"], "the search space has lr=-1: `--lr` (=-1"),
        (["label_smoothing=0..2"], "the search space has label_smoothing=2: `--label-smoothing` (=2.0) must be less than 1"),
        (["optimizer=adam,adm"], "the search space has optimizer=adm: no optimizer named 'adm' is installed"),
        (["blocks=2,99"], "the search space has blocks=99: --set blocks=99"),
        (["optimizer=1..2"], "takes no number, so it has no range"),
        (["arch"], "name the architectures: arch=custom-cnn,residual-cnn"),
        (["zoom=0.9,1.1"], "write them in a --space file: zoom = "),
    ],
)
def test_a_wrong_word_is_refused_before_any_trial(words, said):
    assert said in refusal(words=words)


def test_a_flag_and_a_search_of_one_name_exclude_each_other():
    assert "--lr gives one value for all trials" in refusal(Layers({"lr": 0.1}), words=["lr"])
    assert "--set width gives one value for all trials" in refusal(Layers({"set": ["width=8"]}), words=["width=8,16"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[optim]\nlr = 1\n", "--space space.toml: [optim]: the file has no tables; write one line for each name"),
        ("", "the file is empty"),
        ("lr = ", "--space space.toml: not a TOML file: "),
        ("lr = 1.0\n", "at least two different values"),
        ("lr = 1979-05-27\n", "expected NAME=LOW..HIGH"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(text, said):
    Path("space.toml").write_text(text)
    assert said in refusal(file=Path("space.toml"))


def test_a_missing_file_is_refused():
    assert "--space no.toml: cannot be read" in refusal(file=Path("no.toml"))


def test_flags_that_fix_the_whole_default_space_leave_nothing():
    given = {"lr": 0.1, "weight_decay": 0.1, "label_smoothing": 0.1, "augment": "none", "mixup": 0.0, "set": ["dropout=0.1"]}
    assert "nothing is left to search" in refusal(Layers(given))


def test_the_first_trial_has_the_values_of_the_settings_themselves():
    words = ["lr=1e-4..1e-2:log", "batch_size=32,128", "width=16,32", "dropout=0..0.2", "mixup", "augment"]
    space = read_space(LAYERS, words=words)
    assert baseline(space, LAYERS.config()) == {"lr": 2e-3, "batch_size": 128, "augment": "default", "width": 32}, (
        "dropout is 0.5 by itself"
    )


def test_layers_make_the_settings_of_a_trial():
    config = Layers({"set": ["dense=32"]}).config({"lr": 0.3, "augment": "none"}, {"width": 8})
    assert (config.optim.lr, config.augment.augment, config.model.set) == (0.3, "none", ("dense=32", "width=8"))
