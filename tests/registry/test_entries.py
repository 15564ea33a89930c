"""The meaning of a name, and packages with damaged metadata."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnkit.errors import PluginError
from cnnkit.registry import ARCHITECTURES, EXPORTERS, GROUPS, find, list_command, load_architecture
from cnnkit.registry.entries import choose


def test_a_built_in_name_means_the_built_in_and_package_name_any_other(install_package: Callable[..., None]) -> None:
    install_package("acme.nets", "custom-cnn", "acme_net:net")
    assert choose(ARCHITECTURES, "custom-cnn").package == "cnnkit"
    assert choose(ARCHITECTURES, "cnnkit:custom-cnn").package == "cnnkit"
    assert choose(ARCHITECTURES, "Acme_Nets:custom-cnn").package == "acme.nets"
    architecture, entry = load_architecture("acme.nets:custom-cnn")
    assert (architecture.summary, entry.full_name) == ("a good net", "acme.nets:custom-cnn")


def test_a_name_of_two_packages_is_refused_with_their_full_names(install_package: Callable[..., None]) -> None:
    install_package("twice-a", "twice", "twice_a:net")
    install_package("twice-b", "twice", "twice_b:net", version="2.0")
    with pytest.raises(
        PluginError, match=r"twice-a 1\.0 and twice-b 2\.0; uninstall all but one, or name one: twice-a:twice or twice-b:twice$"
    ):
        choose(ARCHITECTURES, "twice")
    assert choose(ARCHITECTURES, "twice-b:twice").version == "2.0"


@pytest.mark.parametrize("group", GROUPS)
def test_an_unknown_name_ends_with_the_command_that_lists_its_group(group: str, install_package: Callable[..., None]) -> None:
    command = "cnnkit archs" if group == ARCHITECTURES else f"cnnkit plugins list --group {group.removeprefix('cnnkit.')}"
    with pytest.raises(PluginError) as missing:
        choose(group, "kappa", [], built_in=["given"])
    assert str(missing.value).endswith(f" Known: given; install the package that has it, then check with: {command}")
    with pytest.raises(PluginError, match=r"named 'kappa' is installed\. Known: none; install the package"):
        choose(group, "kappa", [])
    install_package("acme", "share", "acme_share:share", group=group)
    with pytest.raises(PluginError) as unlike:
        choose(group, "kappa")
    assert re.search(rf" Known: .*share.*; list the installed ones with: {command}$", str(unlike.value))


@pytest.mark.parametrize("group", [ARCHITECTURES, EXPORTERS])
def test_the_command_of_an_unknown_name_lists_the_group(group: str, cli: Callable[..., Any]) -> None:
    first, *words = list_command(group).split()
    done = cli(*words, "--json")
    assert (first, done.code) == ("cnnkit", 0), done.err
    assert set(find(group)) <= {found["name"] for found in next(iter(done.json().values()))}


@pytest.mark.parametrize("name", ["", ":", ":custom-cnn", "cnnkit:", "other:custom-cnn", "cnnkit:custom-cnn:x", "a" * 5000, "\0"])
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(PluginError, match="no architecture named"):
        load_architecture(name)


@pytest.mark.parametrize(
    ("points", "metadata"),
    [
        (b"[cnnkit.architectures]\nno equals sign\n", b"Name: bad\nVersion: 1.0\n"),
        (b"\xff\xfe[cnnkit.architectures]\nx = y:z\n", b"Name: bad\nVersion: 1.0\n"),
        (b"[cnnkit.architectures]\nx = not an object!\n", b"Name: \xff\n"),
        (b"[cnnkit.architectures]\n = y:z\n", b""),
        (b"[cnnkit.architectures]\nx = y:z\n", None),
    ],
)
def test_damaged_metadata_stop_no_other_package(
    site: Path, install_package: Callable[..., None], points: bytes, metadata: bytes | None
) -> None:
    info = site / "bad-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_bytes(points)
    if metadata is not None:
        (info / "METADATA").write_bytes(metadata)
    install_package("some-net", "net", "good_net:net")
    assert "net" in find(ARCHITECTURES)
    assert load_architecture("net")[0].summary == "a good net"
    if "x" in find(ARCHITECTURES):
        with pytest.raises(PluginError, match="of unknown version does not load"):
            load_architecture("x")
