"""The check of a name that means no plugin, or two."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cnnkit.api.plugins.check import check_plugin
from cnnkit.errors import PluginError
from cnnkit.registry import TRACKERS


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(PluginError, match="no tracker named 'wanb' is installed; did you mean 'wandb'"):
        check_plugin("wanb", TRACKERS)


def test_a_name_of_two_packages_is_a_failure_with_both(install_package: Callable[..., None]) -> None:
    install_package("acme-a", "twice", "acme_a:net", "net = print", group=TRACKERS)
    install_package("acme-b", "twice", "acme_b:net", "net = print", group=TRACKERS)
    report = check_plugin("twice", TRACKERS)
    assert report.failed == ["name"]
    assert report.results[0].problem.startswith("acme-a 1.0 has this name, but acme-b 1.0 provides this name too: uninstall all but one")
    assert report.results[0].remedy == "to check one of them: cnnkit plugins check acme-a:twice"
