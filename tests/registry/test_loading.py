"""Discovery in real dist-info folders, with good and bad third-party packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cnnkit.errors import PluginError
from cnnkit.registry import ARCHITECTURES, find, load, load_architecture, peek

FAMILY = """
from cnnkit import Architecture, Family
NETS = {"small": Architecture(build=print, summary="small", image_size=32)}
zoo = Family(members=lambda: NETS, get=lambda name: NETS[name], summary="a zoo")
"""


@pytest.fixture
def bad_neighbours(install_package: Callable[..., None]) -> None:
    install_package("raises", "raises", "raises_at_import:net", "raise ZeroDivisionError('at import')")
    install_package("lacks-module", "lacks-module", "no_such_module_here:net", None)
    install_package("lacks-name", "lacks-name", "without_net:net", "other = 1")
    install_package("lacks-import", "lacks-import", "imports_missing:net", "import no_such_library\nnet = 1")
    install_package("no-python", "no-python", "no_python:net", "def broken(:")
    install_package("twice-a", "twice", "twice_a:net")
    install_package("twice-b", "twice", "twice_b:net", version="2.0")


def test_a_good_package_is_found_and_loaded(site: Path, install_package: Callable[..., None]) -> None:
    install_package("some-net", "net", "good_net:net", version="3.1")
    architecture, entry = load_architecture("net")
    network = architecture.build(2, 3, width=8)
    assert (network.in_features, network.out_features) == (24, 2)
    assert (entry.package, entry.version, entry.origin) == ("some-net", "3.1", "some-net 3.1")
    assert list(find(ARCHITECTURES, [str(site)])) == ["net"]


def test_finding_imports_nothing(install_package: Callable[..., None], bad_neighbours: None) -> None:
    install_package("some-net", "net", "good_net:net")
    found = find(ARCHITECTURES)
    assert {"net", "raises", "lacks-module", "lacks-name", "twice", "custom-cnn"} <= set(found)
    assert not {"good_net", "raises_at_import", "without_net", "twice_a"} & set(sys.modules)


def test_find_and_peek_import_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from cnnkit.registry import ARCHITECTURES, find, peek; "
        "entries = [entry for found in find(ARCHITECTURES).values() for entry in found]; "
        "assert all(peek(entry).summary and not peek(entry).problem for entry in entries if entry.package == 'cnnkit'), entries; "
        "sys.exit(bool({'torch', 'timm', 'cnnkit.architectures'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bad_packages_do_not_affect_a_good_name(install_package: Callable[..., None], bad_neighbours: None) -> None:
    install_package("some-net", "net", "good_net:net")
    assert load_architecture("net")[0].summary == "a good net"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", r"architecture 'raises' of raises 1\.0 does not load: ZeroDivisionError: at import; reinstall or uninstall raises"),
        ("lacks-module", r"of lacks-module 1\.0 does not load: ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("lacks-name", r"of lacks-name 1\.0 does not load: AttributeError: .*'without_net' has no attribute 'net'"),
        ("lacks-import", r"of lacks-import 1\.0 does not load: ModuleNotFoundError: No module named 'no_such_library'"),
        ("no-python", r"of no-python 1\.0 does not load: SyntaxError"),
        ("twice", r"architecture 'twice' is provided by 2 packages: twice-a 1\.0 and twice-b 2\.0; uninstall all but one"),
    ],
)
def test_the_error_for_a_bad_package_names_it(bad_neighbours: None, name: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        load_architecture(name)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("lacks-module", "no module named 'no_such_module_here'"),
        ("lacks-name", "module 'without_net' defines no 'net'"),
        ("lacks-import", "it imports 'no_such_library', which is not installed"),
        ("no-python", "SyntaxError: invalid syntax"),
        ("raises", "module 'raises_at_import' defines no 'net'"),
    ],
)
def test_peek_names_the_problem_without_importing(bad_neighbours: None, name: str, problem: str) -> None:
    [entry] = find(ARCHITECTURES)[name]
    assert (peek(entry).problem or "").startswith(problem)
    assert entry.value.partition(":")[0] not in sys.modules


def test_peek_reads_the_summary_from_the_source(install_package: Callable[..., None]) -> None:
    install_package("some-net", "net", "good_net:net")
    [entry] = find(ARCHITECTURES)["net"]
    assert peek(entry).summary == "a good net"
    assert peek(entry).problem is None
    assert "good_net" not in sys.modules


def test_a_module_inside_a_package_is_read_without_importing_the_package(site: Path, install_package: Callable[..., None]) -> None:
    (site / "outer").mkdir()
    (site / "outer" / "__init__.py").write_text("raise RuntimeError('imported')")
    (site / "outer" / "inner.py").write_text("net = Architecture(build=print, summary='a good net', image_size=32)")
    install_package("nested", "nested", "outer.inner:net", None)
    [entry] = find(ARCHITECTURES)["nested"]
    assert peek(entry).summary == "a good net"


def test_the_error_for_an_unknown_name_lists_the_closest_names() -> None:
    with pytest.raises(
        PluginError, match=r"no architecture named 'custm-cnn' is installed; did you mean 'custom-cnn'.*\? Known: .*residual-cnn"
    ):
        load_architecture("custm-cnn")


def test_the_error_for_an_unlike_name_lists_all_names() -> None:
    with pytest.raises(PluginError, match=r"no architecture named 'qqq' is installed\. Known: custom-cnn, deep-cnn-14"):
        load_architecture("qqq")


def test_a_member_without_its_family_is_offered_with_it(install_package: Callable[..., None], bad_neighbours: None) -> None:
    install_package("a-zoo", "zoo", "zoo_nets:zoo", FAMILY)
    install_package("some-net", "net", "good_net:net")
    with pytest.raises(PluginError, match=r"no architecture named 'small' is installed, but a family has it; type: --arch zoo/small$"):
        load_architecture("small")
    assert not {"good_net", "raises_at_import"} & set(sys.modules)  # only families are loaded


def test_a_member_of_timm_is_offered_with_timm() -> None:
    with pytest.raises(PluginError, match=r"type: --arch timm/resnet18$"):
        load_architecture("resnet18")


def test_a_family_gives_its_member(install_package: Callable[..., None]) -> None:
    install_package("zoo", "zoo", "zoo_of_nets:zoo", FAMILY)
    architecture, entry = load_architecture("zoo/small")
    assert (architecture.summary, entry.name) == ("small", "zoo")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zoo", r"'zoo' is a family of architectures; name a member, such as zoo/…; list them with: cnnkit archs 'zoo/\*'"),
        ("zoo/", r"'zoo/' is a family of architectures; name a member"),
        ("zoo/smal", r"family 'zoo' \(zoo 1\.0\) has no member 'smal'; did you mean 'small'\? List them with: cnnkit archs 'zoo/\*'"),
        ("net/small", r"architecture 'net' is not a family; ask for 'net' without '/small'"),
        ("number", r"architecture 'number' of number 1\.0 is a int, not a cnnkit\.Architecture"),
    ],
)
def test_a_name_that_is_not_an_architecture_is_explained(install_package: Callable[..., None], name: str, message: str) -> None:
    install_package("zoo", "zoo", "zoo_of_nets:zoo", FAMILY)
    install_package("some-net", "net", "good_net:net")
    install_package("number", "number", "a_number:net", "net = 3")
    with pytest.raises(PluginError, match=message):
        load_architecture(name)


def test_every_group_has_its_own_names(install_package: Callable[..., None]) -> None:
    install_package("out", "net", "some_exporter:net", group="cnnkit.exporters")
    assert "net" in find("cnnkit.exporters")
    assert "net" not in find(ARCHITECTURES)
    with pytest.raises(PluginError, match="no exporter named 'nett'"):
        load("cnnkit.exporters", "nett")


def test_a_package_without_a_name_is_found_too(tmp_path: Path) -> None:
    info = tmp_path / "some_net-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ARCHITECTURES}]\nnet = good_net:net\n")
    [entry] = find(ARCHITECTURES, [str(tmp_path)])["net"]
    assert entry.origin == "unknown package 1.0"


def test_a_package_that_is_twice_on_the_path_counts_once(
    site: Path, tmp_path: Path, install_package: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install_package("some-net", "net", "good_net:net", version="2.0")
    older = tmp_path / "older"
    info = older / "some_net-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Some_Net\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ARCHITECTURES}]\nnet = good_net:net\n")
    [entry] = find(ARCHITECTURES, [str(site), str(older)])["net"]
    assert entry.version == "2.0"
