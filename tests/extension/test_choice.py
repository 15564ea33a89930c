"""The text NAME:option=value,option=value of a flag."""

from __future__ import annotations

import pytest

from cnnkit.errors import ConfigError
from cnnkit.extension.choice import Choice, parse_choice


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("focal", Choice("focal")),
        ("acme:focal", Choice("acme:focal")),
        ("focal:gamma=1.5", Choice("focal", ("gamma=1.5",))),
        ("acme:focal:gamma=1.5, mode=a:b=c", Choice("acme:focal", ("gamma=1.5", "mode=a:b=c"))),
        ("focal:gamma=", Choice("focal", ("gamma=",))),
    ],
)
def test_settings_start_after_the_last_colon_before_the_first_equals_sign(text: str, expected: Choice) -> None:
    assert parse_choice(text, "--loss") == expected


@pytest.mark.parametrize("text", ["", " ", "=1", "gamma=1.5", ":gamma=1.5"])
def test_a_text_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--loss '.*': expected NAME, or NAME:option=value,option=value$"):
        parse_choice(text, "--loss")


@pytest.mark.parametrize("text", ["focal:gamma=1,", "focal:gamma=1,,mode=a"])
def test_an_empty_setting_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="a setting is empty; write focal:option=value,option=value"):
        parse_choice(text, "--loss")
