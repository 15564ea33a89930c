"""The checks of sources, exporters and trackers: type, summary and signatures, and the export of an exporter."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cnnkit.api.plugins.check import check_plugin
from cnnkit.api.plugins.plugin_report import PluginReport
from cnnkit.registry import EXPORTERS, SOURCES, TRACKERS

SOURCE = "from cnnkit.data.source import SourceKind\nnet = SourceKind(open=lambda request: None, summary='nothing')\n"
EXPORTER = (
    "from cnnkit.exporters.protocol import Exporter\n"
    "net = Exporter(name='acme', summary='a file', write=lambda model, path: path.write_bytes(b''), open=lambda path: None)\n"
)
TRACKER = (
    "class net:\n    def start(self, facts, folder, epoch): 'Start.'\n"
    "    def epoch(self, result): 'Note.'\n    def end(self, status): 'End.'\n"
)


@pytest.fixture
def checked(install_package: Callable[..., None], loaded_here: None) -> Callable[..., PluginReport]:
    """Return a function that installs a module as the plugin ``acme`` of a group, and checks it; it is loaded in this process."""

    def install_and_check(group: str, source: str) -> PluginReport:
        install_package("acme", "acme", "acme:net", source, group=group)
        return check_plugin("acme", group)

    return install_and_check


@pytest.mark.parametrize(
    ("group", "source"), [(SOURCES, SOURCE), (TRACKERS, TRACKER), (TRACKERS, f"{TRACKER}made = net\ndef net(): return made()")]
)
def test_a_sound_plugin_passes(checked: Callable[..., PluginReport], group: str, source: str) -> None:
    report = checked(group, source)
    assert all(result.ok for result in report.results)
    assert "signatures" in {result.check for result in report.results}


@pytest.mark.parametrize(
    ("group", "source", "failed", "problem"),
    [
        (SOURCES, "net = 3", "type", "is a int, not a cnnkit.data.source.SourceKind"),
        (SOURCES, SOURCE.replace("'nothing'", "'two\\nlines'"), "summary", r"its summary is 'two\nlines'"),
        (
            SOURCES,
            SOURCE.replace("lambda request", "lambda"),
            "signatures",
            "open(request) does not fit its signature: too many positional",
        ),
        (SOURCES, SOURCE.replace("lambda request: None", "7"), "signatures", "its open is a int, not a function"),
        (EXPORTERS, "net = print", "type", "not a cnnkit.exporters.protocol.Exporter"),
        (EXPORTERS, EXPORTER.replace("model, path:", "model:"), "signatures", "write(model, path) does not fit its signature"),
        (
            EXPORTERS,
            EXPORTER.replace("summary", "half=True, summary"),
            "signatures",
            "write(model, path, options) does not fit its signature: too many positional",
        ),
        (EXPORTERS, EXPORTER.replace("'acme'", "'other'"), "signatures", "its name is 'other', and that of the entry point is 'acme'"),
        (TRACKERS, "net = 3", "type", "is a int; a tracker is a class, or a function that returns one"),
        (TRACKERS, "def net(run): return run", "type", "net() does not fit its signature: missing a required argument: 'run'"),
        (TRACKERS, "class net: pass", "signatures", "lacks the methods start, epoch, end"),
        (
            TRACKERS,
            TRACKER.replace("facts, folder", "folder"),
            "signatures",
            "start(self, facts, folder, epoch) does not fit its signature",
        ),
    ],
)
def test_a_fault_is_named(checked: Callable[..., PluginReport], group: str, source: str, failed: str, problem: str) -> None:
    report = checked(group, source)
    assert report.failed == [failed]
    row = next(result for result in report.results if result.ok is False)
    assert problem in row.problem
    assert row.remedy


@pytest.mark.slow  # trains and exports
def test_an_exporter_writes_a_file_that_predicts_the_same(checked: Callable[..., PluginReport]) -> None:
    report = checked(EXPORTERS, EXPORTER)
    assert report.failed == ["export"]
    report = check_plugin("onnx", EXPORTERS)
    assert report.failed == []
    assert "largest difference of a probability" in report.results[-1].note


METRIC = (
    "from cnnkit import Metric\n\n\ndef compute(labels, predicted, probabilities, *, scale: float = 1.0):\n    return {}\n\n\n"
    "net = Metric(compute=compute, summary='a share', bounds=(0.0, 1.0))\n"
)


@pytest.mark.parametrize(("value", "problem"), [("scale * float((labels == predicted).mean())", ""), ("2.0", "returns 2 for 2 classes")])
def test_a_metric_is_checked_by_its_contract_test(checked: Callable[..., PluginReport], value: str, problem: str) -> None:
    report = checked("cnnkit.metrics", METRIC.format(value))
    assert [result.check for result in report.results] == ["name", "loads", "stdout", "type", "summary", "contract"]
    assert problem in report.results[-1].problem
    assert bool(report.failed) == bool(problem)


@pytest.mark.parametrize("group", ["metrics", "losses", "optimizers", "augmentations"])
def test_a_value_of_another_type_is_named(checked: Callable[..., PluginReport], group: str) -> None:
    report = checked(f"cnnkit.{group}", "net = print")
    assert report.failed[0] == "type"
    assert "is a builtin_function_or_method, not a cnnkit." in next(result.problem for result in report.results if result.check == "type")
