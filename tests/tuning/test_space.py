from __future__ import annotations

import pytest

from cnnkit.errors import ConfigError
from cnnkit.tuning.space import Choices, Range, SearchSpace, choice_text, parse_domain, split_words


@pytest.mark.parametrize(
    ("given", "number", "expected"),
    [
        ("1e-4..1e-2:log", float, Range(1e-4, 1e-2, log=True)),
        ("0..0.5", float, Range(0.0, 0.5)),
        ("0..0.5:step=0.1", float, Range(0.0, 0.5, step=0.1)),
        ("16..128", int, Range(16, 128, is_integer=True)),
        ("16..128:log", int, Range(16, 128, log=True, is_integer=True)),
        ("32,64,128", int, Choices((32, 64, 128))),
        ([32, 64], int, Choices((32, 64))),
        ("auto,1e-3", float, Choices(("auto", 1e-3))),
        ("adam, sgd", None, Choices(("adam", "sgd"))),
        ("true,false", None, Choices((True, False))),
        (["0.9,1.1", "0.8,1.2"], None, Choices(("0.9,1.1", "0.8,1.2"))),
    ],
)
def test_a_domain_is_read_and_written_in_one_grammar(given, number, expected):
    domain = parse_domain("x", given, number, "--search")
    assert domain == expected
    if not isinstance(given, list):
        assert parse_domain("x", str(domain), number, "--search") == expected


@pytest.mark.parametrize(
    ("given", "number", "said"),
    [
        ("1e-2..1e-4", float, "LOW must be below HIGH"),
        ("1..inf", float, "LOW must be below HIGH, and both must be finite"),
        ("0..1:log", float, "must start above 0"),
        ("0..1:step=0.3", float, "must be a multiple of the step"),
        ("0..1:step=0", float, "must be a multiple of the step"),
        ("0..1:step=nan", float, "must be a multiple of the step"),
        ("1..4:log:step=1", float, "log and step exclude each other"),
        ("1..4:lin", float, "expected NAME=LOW..HIGH, NAME=LOW..HIGH:log"),
        ("1..2..3", float, "expected NAME=LOW..HIGH"),
        ("a..b", float, "expected NAME=LOW..HIGH"),
        ("1.5..4", int, "takes whole numbers"),
        ("1..4", None, "has no range; list its values"),
        ("adam", None, "at least two different values"),
        ("adam,adam", None, "at least two different values"),
        ("adam,,sgd", None, "expected NAME="),
        ([[1], [2]], None, "expected NAME="),
    ],
)
def test_a_wrong_domain_is_refused_with_the_name_and_the_value(given, number, said):
    with pytest.raises(ConfigError, match=r"--search: x.*") as refused:
        parse_domain("x", given, number, "--search")
    assert said in str(refused.value)


def test_a_domain_knows_its_values():
    assert 0.3 in Range(0.0, 0.5, step=0.1)
    assert 0.35 not in Range(0.0, 0.5, step=0.1)
    assert 64 in Range(16, 128, is_integer=True)
    assert 64.5 not in Range(16, 128, is_integer=True)
    assert True not in Range(0, 1)
    assert None not in Range(0.0, 1.0)
    assert 1 in Choices((1, 2))
    assert True not in Choices((1, 2))


def test_words_name_a_domain_or_its_default():
    assert split_words(["lr=1e-4..1e-2:log", "drop-rate"]) == {"lr": "1e-4..1e-2:log", "drop_rate": ""}
    with pytest.raises(ConfigError, match="--search lr: the name stands twice"):
        split_words(["lr", "lr=1..2"])
    for word in ("=1..2", "lr="):
        with pytest.raises(ConfigError, match=r"expected NAME=LOW\.\.HIGH"):
            split_words([word])


def test_an_option_takes_part_only_where_the_architecture_has_it():
    domains = {"width": Choices((8, 16)), "lr": Range(0.1, 1.0), "arch": Choices(("a", "b"))}
    space = SearchSpace(domains, {"a": frozenset({"width"}), "b": frozenset()})
    assert space.settings == ("arch", "lr")
    assert space.options_of("a") == ("width",)
    assert space.options_of("b") == ()
    assert space.to_dict() == {"width": "8,16", "lr": "0.1..1", "arch": "a,b"}


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (0.1, "0.1"), (1 / 3, "0.3333333333333333"), (64, "64"), ("strong", "strong")])
def test_a_value_is_written_as_the_command_line_reads_it(value, text):
    assert choice_text(value) == text
