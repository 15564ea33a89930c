"""A look at the source, without an import: no working package is called broken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cnnkit.registry import ARCHITECTURES, find, peek

NET = "Architecture(build=build, summary='mine', image_size=32)"


@pytest.mark.parametrize(
    ("source", "summary"),
    [
        (f"if True:\n    net = {NET}", "mine"),
        (f"try:\n    import x\nexcept ImportError:\n    net = {NET}", "mine"),
        (f"with open('f') as f:\n    net: Architecture = {NET}", "mine"),
        (f"for net in [{NET}]: pass", ""),
        (f"a, (net, b) = 1, ({NET}, 2)", ""),
        (f"if (net := {NET}): pass", ""),
        ("from os.path import *", ""),
        ("def __getattr__(name): return 1", ""),
        ("globals()['net'] = 1", ""),
        ("def make():\n    global net\n    net = 1\nmake()", ""),
        ("import os.path as net", ""),
        ("class net: pass", ""),
    ],
)
def test_a_name_may_be_defined_in_any_way(install_package: Callable[..., None], source: str, summary: str) -> None:
    install_package("some-net", "net", "good_net:net", source)
    [entry] = find(ARCHITECTURES)["net"]
    assert (peek(entry).summary, peek(entry).problem) == (summary, None)


@pytest.mark.parametrize("source", ["def f():\n    net = 1", "class A:\n    net = 1", "print('net')", "import a_net.net"])
def test_a_name_in_another_scope_is_none(install_package: Callable[..., None], source: str) -> None:
    install_package("some-net", "net", "good_net:net", source)
    [entry] = find(ARCHITECTURES)["net"]
    assert peek(entry).problem in {"module 'good_net' defines no 'net'", "it imports 'a_net', which is not installed"}


@pytest.mark.parametrize("source", ["(" * 500, "x = " + "-" * 200_000 + "1", "x = '\0'"])
def test_a_source_that_cannot_be_parsed_is_a_problem(install_package: Callable[..., None], source: str) -> None:
    install_package("some-net", "net", "good_net:net", source)
    [entry] = find(ARCHITECTURES)["net"]
    assert peek(entry).problem


@pytest.mark.parametrize("value", ["compiled:net", "outer.compiled:net", "spread.part:net"])
def test_a_module_without_source_is_not_judged(site: Path, install_package: Callable[..., None], value: str) -> None:
    (site / "outer").mkdir()
    (site / "outer/__init__.py").touch()
    (site / "spread").mkdir()
    (site / "spread/part.py").write_text(f"net = {NET}")
    for name in ("compiled.so", "outer/compiled.so"):
        (site / name).write_bytes(b"\x7fELF\0")
    install_package("some-net", "net", value, None)
    [entry] = find(ARCHITECTURES)["net"]
    assert peek(entry).problem is None
    assert not {"outer", "spread", "compiled"} & set(sys.modules)


@pytest.mark.parametrize("value", ["", ":net", "..:net", "os.nothing:net", "outer.gone:net", "json:nothing", "-:-"])
def test_a_value_that_names_nothing_is_a_problem(site: Path, install_package: Callable[..., None], value: str) -> None:
    (site / "outer").mkdir()
    (site / "outer/__init__.py").touch()
    install_package("some-net", "net", value, None)
    [entry] = find(ARCHITECTURES)["net"]
    assert peek(entry).problem
