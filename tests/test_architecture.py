"""The options of an architecture: the signature of `build` is the schema of ``--set``."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum
from math import nextafter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt
from pydantic import Field

from cnnkit import Architecture
from cnnkit.architecture import OptionValue, build_keywords, options, parse_options
from cnnkit.errors import ConfigError, PluginError

if TYPE_CHECKING:
    from torch import nn


def build(num_classes: int, in_channels: int, *, width: int = 32, drop_rate: float = 0.5, gated: bool = False, norm: str = "batch") -> Any:
    return (num_classes, in_channels, width, drop_rate, gated, norm)


NET = Architecture(build=build, summary="a net", image_size=32)


def test_options_are_the_keywords_of_build_with_type_and_default() -> None:
    assert {name: (option.type, option.default) for name, option in options(NET, "net").items()} == {
        "width": (int, 32),
        "drop_rate": (float, 0.5),
        "gated": (bool, False),
        "norm": (str, "batch"),
    }


def test_without_settings_the_defaults_are_the_keywords() -> None:
    assert parse_options(NET, "net", []) == {"width": 32, "drop_rate": 0.5, "gated": False, "norm": "batch"}


def test_settings_become_values_of_the_type_of_the_option() -> None:
    chosen = parse_options(NET, "net", ["width=64", "drop-rate = 1", "gated=yes", "norm=a=b"])
    assert chosen == {"width": 64, "drop_rate": 1.0, "gated": True, "norm": "a=b"}
    assert type(chosen["drop_rate"]) is float
    assert build(10, 3, **chosen) == (10, 3, 64, 1.0, True, "a=b")  # pyright: ignore[reportArgumentType]


def test_the_last_of_two_settings_wins() -> None:
    assert parse_options(NET, "net", ["width=1", "width=2"])["width"] == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("width", r"--set 'width': expected name=value, such as --set width=64"),
        (
            "widht=64",
            r"--set widht: architecture 'net' has no option 'widht'; did you mean 'width'\? Its options: width=32, drop_rate=0\.5",
        ),
        ("zzz=1", r"has no option 'zzz'\. Its options: width=32"),
        ("width=wide", r"--set width=wide: option 'width' of architecture 'net' must be of type int \(default 32\)"),
        ("width=1.5", r"must be of type int"),
        ("drop_rate=half", r"must be of type float \(default 0\.5\)"),
        ("gated=maybe", r"must be true or false \(default False\)"),
    ],
)
def test_the_error_for_a_wrong_setting_names_the_allowed_values(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_options(NET, "net", [setting])


def test_the_error_for_an_architecture_without_options_lists_none() -> None:
    def bare(num_classes: int, in_channels: int) -> Any: ...

    with pytest.raises(ConfigError, match=r"Its options: none"):
        parse_options(Architecture(build=bare, summary="", image_size=32), "bare", ["width=1"])


def test_an_option_without_a_default_is_a_plugin_error() -> None:
    def needy(num_classes: int, in_channels: int, *, width: int) -> Any: ...

    with pytest.raises(PluginError, match=r"architecture 'needy': option 'width' of its build needs a default"):
        options(Architecture(build=needy, summary="", image_size=32), "needy")


def test_an_option_of_a_type_that_text_cannot_express_is_a_plugin_error() -> None:
    def listed(num_classes: int, in_channels: int, *, widths: tuple[int, ...] = (1, 2)) -> Any: ...

    with pytest.raises(PluginError, match=r"option 'widths' of its build needs a default and the type bool, int, float or str"):
        options(Architecture(build=listed, summary="", image_size=32), "listed")


def test_an_option_without_an_annotation_has_the_type_of_its_default() -> None:
    def plain(num_classes, in_channels, *, width=3): ...  # pyright: ignore[reportMissingParameterType, reportUnknownParameterType]

    assert options(Architecture(build=plain, summary="", image_size=32), "plain")["width"].type is int


class Activation(Enum):
    RELU = "relu"
    GELU = "gelu"


def build_limited(  # noqa: PLR0913 (one option of every kind)
    num_classes: int,
    in_channels: int,
    *,
    norm: Literal["batch", "layer", "none"] = "batch",
    kernel: Literal[3, 5, 9] = 3,
    act: Activation = Activation.RELU,
    depth: Annotated[int, Interval(ge=1, le=8)] = 4,
    width: Annotated[int, Gt(0), Lt(9)] = 8,
    scale: Annotated[float, Ge(0), Lt(1)] = 0,
    rate: Annotated[float, Field(gt=0, le=0.5)] = 0.5,
    plain: Annotated[int, "a comment"] = 1,
) -> nn.Module:
    """Return the arguments, for the test; the type of the return value is unknown when the program runs."""
    return (norm, kernel, act, depth, width, scale, rate, plain)  # pyright: ignore[reportReturnType]


LIMITED = Architecture(build=build_limited, summary="a net with limits", image_size=32)


def test_literals_enums_and_ranges_are_read_from_the_signature() -> None:
    known = options(LIMITED, "net")
    assert {name: option.choices for name, option in known.items() if option.choices} == {
        "norm": ("batch", "layer", "none"),
        "kernel": (3, 5, 9),
        "act": ("relu", "gelu"),
    }
    assert [known[name].type for name in ("norm", "kernel", "act", "depth", "rate")] == [str, int, str, int, float]
    assert known["act"].default == "relu"
    ranges = {name: (option.low, option.high, option.limits) for name, option in known.items() if not option.choices}
    assert ranges == {
        "depth": (1, 8, "from 1 to 8"),
        "width": (1, 8, "above 0 and below 9"),
        "scale": (0.0, nextafter(1, 0), "at least 0 and below 1"),
        "rate": (nextafter(0, 1), 0.5, "above 0 and at most 0.5"),
        "plain": (None, None, ""),
    }


def test_an_option_of_an_enum_is_a_plain_value_until_the_network_is_built() -> None:
    chosen = parse_options(LIMITED, "net", ["act=gelu", "kernel=5", "depth=8"])
    assert json.loads(json.dumps(chosen)) == chosen
    keywords = build_keywords(build_limited, "net", chosen)
    assert keywords == {**chosen, "act": Activation.GELU}
    assert build_keywords(build_limited, "net", keywords) == keywords
    assert parse_options(LIMITED, "net", [f"{name}={value}" for name, value in chosen.items()]) == chosen


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("norm=bach", r"must be one of batch, layer, none \(default batch\); did you mean 'batch'\?$"),
        ("norm=zzz", r"must be one of batch, layer, none \(default batch\)$"),
        ("act=RELU", r"must be one of relu, gelu \(default relu\)"),
        ("kernel=6", r"must be one of 3, 5, 9 \(default 3\); the nearest is 5$"),
        ("kernel=wide", r"must be one of 3, 5, 9 \(default 3\)$"),
        ("depth=9", r"--set depth=9: option 'depth' of architecture 'net' must be of type int, from 1 to 8 \(default 4\)$"),
        ("depth=0", r"must be of type int, from 1 to 8"),
        ("width=0", r"must be of type int, above 0 and below 9"),
        ("width=9", r"above 0 and below 9"),
        ("scale=1", r"must be of type float, at least 0 and below 1"),
        ("rate=0", r"above 0 and at most 0\.5"),
        ("rate=nan", r"above 0 and at most 0\.5"),
        ("rate=inf", r"above 0 and at most 0\.5"),
    ],
)
def test_a_value_outside_the_limits_is_refused_with_the_allowed_values(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_options(LIMITED, "net", [setting])


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_is_finite(value: str) -> None:
    with pytest.raises(ConfigError, match=r"must be of type float \(default 0\.5\)"):
        parse_options(NET, "net", [f"drop_rate={value}"])


@pytest.mark.parametrize("values", [{"depth": 9}, {"depth": 4.0}, {"depth": True}, {"norm": "group"}, {"act": "tanh"}, {"kernel": "3"}])
def test_a_value_of_a_file_is_checked_when_the_network_is_built(values: dict[str, OptionValue]) -> None:
    with pytest.raises(ConfigError, match=f"--set {next(iter(values))}=.* must be"):
        build_keywords(build_limited, "net", values)


def empty(num_classes: int, in_channels: int, *, width: Annotated[int, Ge(3), Le(2)] = 3) -> Any: ...
def outside(num_classes: int, in_channels: int, *, width: Annotated[int, Ge(3)] = 2) -> Any: ...
def unlisted(num_classes: int, in_channels: int, *, norm: Literal["a", "b"] = "c") -> Any: ...  # pyright: ignore[reportArgumentType]
def mixed(num_classes: int, in_channels: int, *, norm: Literal["a", 1] = "a") -> Any: ...
def of_text(num_classes: int, in_channels: int, *, norm: Annotated[str, Ge(1)] = "a") -> Any: ...
def by_text(num_classes: int, in_channels: int, *, width: Annotated[int, Ge("a")] = 1) -> Any: ...
def unknown(num_classes: int, in_channels: int, *, width: nn.Module = 1) -> Any: ...  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (empty, r"option 'width' of its build has an empty range: its smallest value is 3, and its largest is 2"),
        (outside, r"option 'width' of its build has the default 2, which is not at least 3"),
        (unlisted, r"option 'norm' of its build has the default 'c', which is not one of a, b"),
        (mixed, r"option 'norm' of its build needs .* a Literal or Enum of one of them"),
        (of_text, r"option 'norm' of its build has the limit ge=1; a limit is a number, and the type is then int or float"),
        (by_text, r"option 'width' of its build has the limit ge='a'"),
        (unknown, r"option 'width' of its build needs a default and the type bool, int, float or str"),
    ],
)
def test_limits_that_make_no_sense_are_a_plugin_error(build: Callable[..., Any], message: str) -> None:
    with pytest.raises(PluginError, match=f"^architecture 'net': {message}"):
        options(Architecture(build=build, summary="", image_size=32), "net")
