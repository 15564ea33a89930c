"""``cnnkit plugins``: the list, the check and the scaffold, by the command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnkit import __version__

PRINTING = "class net:\n    start = epoch = end = lambda *_: None\nprint('hello')\n"


def test_the_list_has_a_row_for_every_plugin(cli: Callable[..., Any], install_package: Callable[..., None]) -> None:
    install_package("acme", "lost", "acme:net", "import gone", group="cnnkit.trackers")
    done = cli("plugins", "list", "--group", "trackers")
    assert done.code == 0
    lines = [line.split() for line in done.out.splitlines()[2:]]
    assert ["mlflow", "trackers", "cnnkit", __version__, "loads"] in lines
    assert "does not load: tracker 'lost' of acme 1.0 does not load" in " ".join(done.out.split())
    assert "4 plugins of 2 packages, 1 not usable by name" in done.err
    assert done.err.endswith("next: cnnkit plugins check lost --group trackers\n")


def test_the_list_as_json_is_one_document(cli: Callable[..., Any]) -> None:
    rows = cli("plugins", "list", "--group", "cnnkit.exporters", "--json").json()["plugins"]
    origin = {"name": "onnx", "group": "exporters", "package": "cnnkit", "version": __version__}
    assert {**rows[0], "summary": ""} == origin | {
        "value": "cnnkit.exporters.onnx:onnx_exporter",
        "state": "loads",
        "why": "",
        "summary": "",
    }


def test_an_unknown_group_is_refused_with_the_nearest(cli: Callable[..., Any]) -> None:
    done = cli("plugins", "list", "--group", "tracker")
    assert done.code == 2
    assert "'tracker' is no group of plugins; did you mean 'trackers'" in done.err


def test_a_failed_check_exits_with_1_and_names_itself(cli: Callable[..., Any], install_package: Callable[..., None]) -> None:
    install_package("acme", "talks", "acme:net", PRINTING, group="cnnkit.trackers")
    done = cli("plugins", "check", "talks", "--group", "trackers")
    assert done.code == 1
    assert "error   tracker 'talks' of acme 1.0: 1 of 5 checks failed: stdout" in done.err
    row = next(line for line in done.out.splitlines() if line.startswith("stdout"))
    assert row.split()[1] == "FAIL"
    assert "hello" not in done.out.replace("writes 'hello' to stdout", "")
    document = cli("plugins", "check", "talks", "--group", "trackers", "--json")
    assert document.code == 1
    assert document.json()["passed"] is False
    assert (
        next(result for result in document.json()["results"] if result["check"] == "stdout")["remedy"] == "remove the print, or use logging"
    )


def test_a_passed_check_names_the_command_that_uses_the_plugin(cli: Callable[..., Any]) -> None:
    done = cli("plugins", "check", "wandb")
    assert (done.code, done.err.splitlines()) == (
        0,
        [f"tracker 'wandb' of cnnkit {__version__} passes all 5 checks", "next: cnnkit train --data ./images --log wandb"],
    )


def test_an_unknown_plugin_is_refused(cli: Callable[..., Any]) -> None:
    done = cli("plugins", "check", "custm-cnn")
    assert done.code == 2
    assert "no plugin named 'custm-cnn' is installed; did you mean 'custom-cnn'" in done.err


def test_new_lists_its_files_and_the_next_command(cli: Callable[..., Any]) -> None:
    done = cli("plugins", "new", "lines", "--group", "trackers")
    assert done.code == 0
    assert [Path(line).as_posix() for line in done.out.splitlines()] == [
        f"cnnkit-lines/{file}" for file in ("pyproject.toml", "README.md", "cnnkit_lines.py", "tests/test_lines.py")
    ]
    assert done.err.endswith("next: pip install -e cnnkit-lines && cnnkit plugins check lines --group trackers\n")
    assert cli("plugins", "new", "lines", "--group", "trackers").code == 2
    made = cli("plugins", "new", "lines", "--group", "trackers", "--out", "other", "--json").json()
    assert (Path(made["folder"]).as_posix(), made["package"], made["group"]) == ("other/cnnkit-lines", "cnnkit-lines", "cnnkit.trackers")


@pytest.mark.slow  # installs a package, trains and exports
def test_a_new_architecture_installs_trains_and_passes_its_check(
    cli: Callable[..., Any], site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("plugins", "new", "tinynet").code == 0
    folder = Path("cnnkit-tinynet").resolve()
    # as `pip install -e` does it, but without pip, which needs a network: metadata and the folder on the path
    info = site / "cnnkit_tinynet-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cnnkit-tinynet\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[cnnkit.architectures]\ntinynet = cnnkit_tinynet:tinynet\n")
    monkeypatch.syspath_prepend(folder)
    done = cli("plugins", "check", "tinynet")
    assert (done.code, done.err.splitlines()[-1]) == (0, "next: cnnkit train --data ./images --arch tinynet")
    trained = cli("train", "--arch", "tinynet", "--set", "norm=none", "--data", "digits", "--epochs", "1", "--json")
    assert trained.code == 0
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(folder), *sys.path])}
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert tests.returncode == 0, tests.stdout
