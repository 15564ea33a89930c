from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cnnkit.config.tiers import Larger, parsed
from cnnkit.errors import ConfigError


def test_tables_are_the_sections_that_change() -> None:
    larger = parsed({"images": 8, "optim": {"lr": 0.1}}, None)
    assert larger == Larger(images=8, optim={"lr": 0.1})
    assert larger.tables() == {"optim": {"lr": 0.1}}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "images: field required"),
        ({"images": 0}, "images: input should be greater than 0"),
        ({"images": 3, "run": {"seed": 1}}, "run: extra inputs are not permitted"),
        (3, "this: input should be a valid dictionary"),
    ],
)
def test_what_is_no_such_table_is_refused_with_what_it_must_have(table: Any, message: str) -> None:
    expected = rf"--config mine.toml: \[\[larger\]\] must have images, a number above 0, and settings .*: {message}"
    with pytest.raises(ConfigError, match=expected):
        parsed(table, Path("mine.toml"))
