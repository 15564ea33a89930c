from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cnnkit.config.tiers import Tier, choose_tier, parse_tier
from cnnkit.errors import ConfigError


def test_tables_are_the_sections_that_change() -> None:
    larger = parse_tier({"images": 8, "optim": {"lr": 0.1}}, None)
    assert larger == Tier(images=8, optim={"lr": 0.1})
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
def test_the_error_for_a_wrong_table_names_the_required_content(table: Any, message: str) -> None:
    expected = rf"--config mine.toml: \[\[larger\]\] must have images, a number above 0, and settings .*: {message}"
    with pytest.raises(ConfigError, match=expected):
        parse_tier(table, Path("mine.toml"))


SOME = Tier(images=600, model={"set": ["width=6", "middle=1"]}, optim={"batch_size": 32})
MANY = Tier(images=1800, model={"set": ["width=8", "middle=1"]})


@pytest.mark.parametrize(
    ("speed", "about", "expected"),
    [(0.1, "6", None), (9.9, "590", None), (10, "600", SOME), (29.9, "1,800", SOME), (30, "1,800", MANY), (1e5, "6,000,000", MANY)],
)
def test_the_budget_chooses_the_largest_tier_that_it_is_enough_for(speed: float, about: str, expected: Tier | None) -> None:
    found, why = choose_tier([SOME, MANY], 60, speed, "fast-cnn width=4")
    assert found == expected
    assert why.startswith(f"--budget 60s is enough for about {about} images through fast-cnn width=4")


def test_the_sentence_names_the_flags_of_the_tier() -> None:
    flags = "--set width=6 --set middle=1 --batch-size 32"
    assert choose_tier([SOME], 60, 20, "fast-cnn")[1].endswith(f"fast-cnn, so training uses {flags}")
    assert choose_tier([SOME], 60, 5, "fast-cnn")[1].endswith(f"fast-cnn; at 600 images or more it would use {flags}")


def test_a_tier_of_another_image_size_or_architecture_needs_other_canvases() -> None:
    assert SOME.keeps_canvases
    assert not Tier(images=1, model={"image_size": 40}).keeps_canvases
    assert not Tier(images=1, model={"arch": "custom-cnn"}).keeps_canvases
