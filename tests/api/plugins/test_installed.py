"""The list of installed plugins: every entry point has a row with its state and the reason."""

from __future__ import annotations

from collections.abc import Callable

from cnnkit.api.plugins.installed import list_plugins
from cnnkit.registry import GROUPS, TRACKERS

BUILTIN_TRACKERS = ["mlflow", "tensorboard", "wandb"]


def test_every_group_has_its_rows_and_the_built_in_ones_load() -> None:
    rows = [row for row in list_plugins() if row.package == "cnnkit"]
    assert {f"cnnkit.{row.group}" for row in rows} <= {*GROUPS}
    assert {(row.state, row.why) for row in rows} == {("loads", "")}
    assert {"custom-cnn", "digits", "onnx", "wandb"} < {row.name for row in rows}


def test_each_state_has_its_reason(install_package: Callable[..., None]) -> None:
    install_package("acme-wandb", "wandb", "acme_wandb:net", "net = print", group=TRACKERS)
    install_package("acme-a", "twice", "acme_a:net", "net = print", group=TRACKERS)
    install_package("acme-b", "twice", "acme_b:net", "net = print", group=TRACKERS, version="2.0")
    install_package("acme-lost", "lost", "acme_lost:net", "import gone", group=TRACKERS)
    rows = {(row.name, row.package): (row.version, row.state, row.why) for row in list_plugins([TRACKERS])}
    assert [name for name, package in rows if package == "cnnkit"] == BUILTIN_TRACKERS
    assert rows["wandb", "acme-wandb"] == (
        "1.0",
        "hidden by a built-in",
        "a built-in tracker has this name; name this one acme-wandb:wandb",
    )
    assert rows["twice", "acme-a"] == (
        "1.0",
        "name taken by two packages",
        "acme-b 2.0 provides this name too: uninstall all but one, or name this one acme-a:twice",
    )
    assert rows["twice", "acme-b"][:2] == ("2.0", "name taken by two packages")
    assert rows["lost", "acme-lost"][1] == "does not load"
    assert "ModuleNotFoundError: No module named 'gone'" in rows["lost", "acme-lost"][2]
    assert rows["wandb", "cnnkit"][1:] == ("loads", "")
