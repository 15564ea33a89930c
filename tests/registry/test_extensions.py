"""Values of packages that are no architectures: found by name, with checked fields and options, and blamed for their errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cnnkit.errors import ConfigError, PluginError
from cnnkit.registry import METRIC_KIND, METRICS, load_extension

Install = Callable[..., None]
METRIC = """
from cnnkit import Metric
def compute(labels, predicted, probabilities, *, power: float = 1.0, mode: str = "mean"):
    {body}
share = Metric(compute=compute, summary="a share", bounds={bounds})
"""


def install(install_package: Install, body: str = "return power", bounds: str = "(0, 1)", **given: str) -> None:
    install_package("acme", "share", "acme_share:share", METRIC.format(body=body, bounds=bounds), group=METRICS, **given)


def test_a_value_is_found_by_its_name_with_all_its_options(install_package: Install) -> None:
    install(install_package)
    found = load_extension(METRIC_KIND, "acme:share:power=0.5")
    assert found.options == {"power": 0.5, "mode": "mean"}
    assert found.call(1, 2, 3) == 0.5
    assert found.facts() == {"kind": "metric", "name": "share", "package": "acme", "version": "1.0", "options": found.options}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("shaer", PluginError, "^no metric named 'shaer' is installed; did you mean 'share'"),
        ("other:share", PluginError, "^no metric named 'other:share' is installed"),
        (
            "share:powr=1",
            ConfigError,
            r"^--metric share:powr: metric 'share' has no option 'powr'; did you mean 'power'\? Its options: power",
        ),
        (
            "share:power=much",
            ConfigError,
            r"^--metric share:power=much: option 'power' of metric 'share' must be of type float \(default 1\.0\)$",
        ),
        ("share:power=1,mode", ConfigError, "^--metric share:'mode': expected name=value, such as --metric share:power=1.0$"),
    ],
)
def test_a_wrong_text_is_refused_with_the_right_one(install_package: Install, text: str, error: type, message: str) -> None:
    install(install_package)
    with pytest.raises(error, match=message):
        load_extension(METRIC_KIND, text)


def test_the_names_of_built_in_choices_are_proposed_too() -> None:
    with pytest.raises(PluginError, match=r"no metric named 'acuracy' is installed; did you mean 'accuracy'\? Known: accuracy"):
        load_extension(METRIC_KIND, "acuracy", [], built_in=["accuracy"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("share = 5", r"^metric 'share' of acme 1\.0 is a int, not a cnnkit\.Metric$"),
        ("from cnnkit import Metric\nshare = Metric(compute=5, summary='')", "compute is 5; it must be a function"),
        ("from cnnkit import Metric\nshare = Metric(compute=print, summary=5)", "summary is 5; it must be text"),
        (METRIC.format(body="", bounds="(1, 0)"), r"bounds is \(1, 0\); it must be two finite numbers, the smaller one first, or None"),
        (METRIC.format(body="", bounds="5"), "bounds is 5"),
        ("from cnnkit import Metric\nshare = Metric(compute=lambda *, k: 0, summary='')", "option 'k' of its compute needs a default"),
        ("raise SystemExit(3)", "does not load: it ends the program"),
    ],
)
def test_a_wrong_value_is_refused_with_its_package(install_package: Install, source: str, message: str) -> None:
    install_package("acme", "share", "acme_share:share", source.replace("    \n", "    pass\n"), group=METRICS)
    with pytest.raises(PluginError, match=message):
        load_extension(METRIC_KIND, "share")


def test_an_error_of_the_function_names_package_and_options(install_package: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(install_package, "print('noise'); raise SystemExit(3)")
    found = load_extension(METRIC_KIND, "share")
    with pytest.raises(
        PluginError,
        match=r"^metric 'share' of acme 1\.0 fails with power=1\.0, mode=mean: it ends the program \(SystemExit: 3\); check its options, "
        "or choose another metric$",
    ):
        found.call(1, 2, 3)
    assert capsys.readouterr() == ("", "noise\n")


def test_a_fault_of_the_machine_keeps_its_type(install_package: Install) -> None:
    install(install_package, "raise MemoryError('full')")
    with pytest.raises(MemoryError, match="full"):
        load_extension(METRIC_KIND, "share").call(1, 2, 3)
