"""The report of a check: every error of a plugin is a row."""

from __future__ import annotations

import json
from collections.abc import Callable

from cnnkit.api.plugins.plugin_report import CheckResult, PluginReport
from cnnkit.errors import ConfigError
from cnnkit.registry import ARCHITECTURES, Entry
from cnnkit.testing import ArchitectureCheckError

ENTRY = Entry(ARCHITECTURES, "net", "acme:net", "acme", "1.0")


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
