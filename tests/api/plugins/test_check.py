"""The report of a check: its rows, and names that mean no plugin or two."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from cnnkit.api.plugins.check import CheckResult, PluginReport, check_plugin
from cnnkit.errors import ConfigError, PluginError
from cnnkit.registry import ARCHITECTURES, TRACKERS, Entry
from cnnkit.testing import ArchitectureCheckError

ENTRY = Entry(ARCHITECTURES, "net", "acme:net", "acme", "1.0")


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


def failing(error: Exception) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


def test_every_error_is_a_failed_row() -> None:
    report = PluginReport("net", ARCHITECTURES)
    report.make("a", lambda: "measured", ENTRY)
    report.make("b", failing(ValueError("of the\nplugin")), ENTRY, needs=["a"], remedy="mend it")
    report.make("c", failing(ConfigError("of cnnkit")), ENTRY)
    report.make("d", failing(ArchitectureCheckError("net", "of the contract", "do this")), ENTRY)
    report.make("e", failing(SystemExit(3)), ENTRY)  # pyright: ignore[reportArgumentType]
    report.make("f", lambda: None, ENTRY, needs=["a", "b", "c"])
    report.make("g", failing(ValueError("x" * 10_000)), ENTRY)
    assert report.results[:6] == [
        CheckResult("a", ok=True, note="measured"),
        CheckResult("b", ok=False, problem="ValueError: of the plugin", remedy="mend it"),
        CheckResult("c", ok=False, problem="of cnnkit"),
        CheckResult("d", ok=False, problem="of the contract", remedy="do this"),
        CheckResult("e", ok=False, problem="it ends the program (SystemExit: 3)"),
        CheckResult("f", ok=None, problem="not made, as it needs 'b' and 'c'"),
    ]
    assert len(report.results[6].problem) < 700
    assert report.failed == ["b", "c", "d", "e", "g"]
    document = json.loads(json.dumps(report.to_dict()))
    assert (document["passed"], document["results"][0]["ok"], document["results"][5]["ok"]) == (False, True, None)
