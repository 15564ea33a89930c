"""The check of a name that means no plugin, or two."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cnnkit.api.plugins.check import check_plugin
from cnnkit.errors import ConfigError, PluginError
from cnnkit.registry import METRICS, TRACKERS


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(PluginError, match="no tracker named 'wanb' is installed; did you mean 'wandb'"):
        check_plugin("wanb", TRACKERS)


def test_a_name_tells_its_group_unless_several_have_it(install_package: Callable[..., None]) -> None:
    install_package("acme", "wandb", "acme:net", "net = 3", group=METRICS)
    assert check_plugin("acme:wandb").group == METRICS
    with pytest.raises(ConfigError, match=r"several groups of plugins have the name 'wandb'; add --group trackers or --group metrics"):
        check_plugin("wandb")
    with pytest.raises(PluginError, match=r"no plugin named 'mlfow' is installed; did you mean 'mlflow'\? List the installed ones with: "):
        check_plugin("mlfow")


def test_a_name_of_two_packages_is_a_failure_with_both(install_package: Callable[..., None]) -> None:
    install_package("acme-a", "twice", "acme_a:net", "net = print", group=TRACKERS)
    install_package("acme-b", "twice", "acme_b:net", "net = print", group=TRACKERS)
    report = check_plugin("twice", TRACKERS)
    assert report.failed == ["name"]
    assert report.results[0].problem.startswith("acme-a 1.0 has this name, but acme-b 1.0 provides this name too: uninstall all but one")
    assert report.results[0].remedy == "to check one of them: cnnkit plugins check acme-a:twice"
