from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from pydantic import TypeAdapter

from cnnkit.config.keywords import TrainingSettings, TrialSettings
from cnnkit.config.settings import SECTIONS, TrainConfig, by_section, validated

FIELDS = {name: field for section in SECTIONS.values() for name, field in section.model_fields.items() if name not in {"data", "arch"}}
HINTS = get_type_hints(TrainingSettings)
EXAMPLES: dict[str, list[Any]] = {
    "split": ["0.8/0.2", (0.7, 0.15, 0.15)],
    "split_file": ["split.csv", Path("split.csv"), None],
    "classes": ["cats,dogs", ["cats", "dogs"]],
    "exclude": ["*.png", ("*.png",)],
    "set": [["width=64"], ("width=64",)],
    "budget": ["10m", 600.0],
    "zoom": ["0.9,1.1", (0.9, 1.1), None],
    "randaugment": ["2,9", (2, 9), None],
    "log": ["tensorboard", ["tensorboard"]],
    "out": ["runs", Path("runs"), None],
}


def literals(annotation: Any) -> Iterator[Any]:
    """Yield the words that `annotation` allows, wherever they stand in it."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        for inner in get_args(annotation):
            yield from literals(inner)


def test_every_setting_is_a_keyword_in_the_order_of_the_settings():
    assert list(get_type_hints(TrialSettings)) == [name for name in FIELDS if name != "budget"], "add it to cnnkit/config/keywords.py"
    assert HINTS.keys() == FIELDS.keys()


@pytest.mark.parametrize("name", FIELDS)
def test_a_keyword_allows_the_words_of_its_setting(name):
    assert list(literals(HINTS[name])) == list(literals(FIELDS[name].annotation))


@pytest.mark.parametrize("name", FIELDS)
def test_a_keyword_allows_the_default_of_its_setting(name):
    TypeAdapter(HINTS[name]).validate_python(FIELDS[name].default, strict=True)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in EXAMPLES.items() for value in values])
def test_the_forms_of_a_keyword_are_accepted(name, value):
    TypeAdapter(HINTS[name]).validate_python(value, strict=True)
    assert isinstance(validated(by_section({name: value})), TrainConfig)
