"""Plugins loaded in another process: a crash, a hang or a print of one of them does not touch the others, nor this process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from cnnkit.api.plugins.load_process import load_apart
from cnnkit.registry import TRACKERS, Entry, find


def entries() -> list[Entry]:
    return [entry for found in find(TRACKERS).values() for entry in found if not entry.is_builtin and entry.package.startswith("acme")]


def test_each_plugin_has_its_own_result(install_package: Callable[..., None]) -> None:
    sources = {
        "a-good": "net = print",
        "b-ends": "import os; os._exit(5)",
        "c-raises": "1 / 0",
        "d-crashes": "import os, signal; os.kill(os.getpid(), signal.SIGABRT)",
        "e-closes": "import sys; sys.stdout.close(); sys.stdin.close(); net = print",
        "f-good": "print('hello'); net = print",
    }
    for name, source in sources.items():
        install_package(f"acme-{name}", name, f"acme_{name[0]}:net", source, group=TRACKERS)
    results = load_apart(entries())
    assert [result.problem for result in results] == [
        None,
        "tracker 'b-ends' of acme-b-ends 1.0 ends the process while it is loaded with exit code 5; reinstall or uninstall acme-b-ends",
        "tracker 'c-raises' of acme-c-raises 1.0 does not load: ZeroDivisionError: division by zero; reinstall or uninstall acme-c-raises",
        "tracker 'd-crashes' of acme-d-crashes 1.0 ends the process while it is loaded by SIGABRT; reinstall or uninstall acme-d-crashes",
        None,
        None,
    ]
    assert [result.printed for result in results if result.problem is None] == ["", "", "hello"]
    assert not {"acme_a", "acme_f"} & set(sys.modules)


def test_an_endless_import_is_stopped(install_package: Callable[..., None]) -> None:
    install_package("acme-1", "endless", "acme_endless:net", "import time\nwhile True: time.sleep(1)", group=TRACKERS)
    [result] = load_apart(entries(), limit=0.2)
    assert result.problem == "tracker 'endless' of acme-1 1.0 does not load within 0.2 s; reinstall or uninstall acme-1"


def test_a_long_print_is_cut(install_package: Callable[..., None]) -> None:
    install_package("acme-1", "talks", "acme_talks:net", "print('é' * 100_000)\nnet = print", group=TRACKERS)
    assert load_apart(entries())[0].printed == "é" * 200


def test_without_plugins_no_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", None)
    assert load_apart([]) == []
