from __future__ import annotations

from typing import Any

import pytest

from cnnkit.config.search import DEFAULT_SAMPLER, DEFAULT_TRIALS, budget_seconds, check_search
from cnnkit.errors import ConfigError


@pytest.mark.parametrize("name", [None, "lr-and-width", "a_1.2", "größe"])
def test_the_settings_of_a_search_are_accepted(name):
    check_search(name, DEFAULT_TRIALS, DEFAULT_SAMPLER)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("", 1, "tpe"), "`--name` (=) must have letters, digits, - and _ alone, such as --name lr-and-width"),
        ((".x", 1, "tpe"), "`--name` (=.x) must have"),
        (("a/b", 1, "tpe"), "`--name` (=a/b) must have"),
        ((5, 1, "tpe"), "`--name` (=5) must be a text, got a value of type int"),
        ((None, 0, "tpe"), "`--trials` (=0) must be a whole number of at least 1, such as 30"),
        ((None, 1.5, "tpe"), "`--trials` (=1.5) must be a whole number of at least 1, such as 30"),
        ((None, "3", "tpe"), "`--trials` (=3) must be a whole number"),
        ((None, 1, 5), "`--sampler` (=5) must be a text, got a value of type int"),
        ((None, 1, "rand"), "`--sampler` (=rand) must be one of tpe, random; did you mean 'random'?"),
    ],
)
def test_other_settings_are_refused(given: Any, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_search(*given)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(("budget", "seconds"), [(None, 0.0), ("90s", 90.0), ("1h30m", 5400.0), (12.5, 12.5)])
def test_a_budget_is_a_time(budget, seconds):
    assert budget_seconds(budget) == seconds


@pytest.mark.parametrize(
    ("budget", "said"), [("soon", "must be a time such as 90s, 30m or 2h"), ("0", "must be above 0"), (-1.0, "must be above 0")]
)
def test_another_budget_is_refused(budget, said):
    with pytest.raises(ConfigError, match=said):
        budget_seconds(budget)
