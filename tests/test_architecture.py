"""The options of an architecture: the signature of `build` is the schema of ``--set``."""

from __future__ import annotations

from typing import Any

import pytest

from cnnkit import Architecture
from cnnkit.architecture import options, parse_options
from cnnkit.errors import ConfigError, PluginError


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
        ("width=wide", r"--set width=wide: option 'width' of 'net' must be of type int \(default 32\)"),
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
