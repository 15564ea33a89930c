"""The scaffold of a plugin: its files work as they are, and names that would not work are refused."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import pytest

from cnnkit.api.plugins import architecture_checks
from cnnkit.api.plugins.check import check_plugin
from cnnkit.api.plugins.scaffold import Scaffold, groups_with_templates, new_plugin
from cnnkit.data.source import is_image, open_source
from cnnkit.errors import ConfigError
from cnnkit.registry import EXPORTERS, GROUPS, SOURCES


@pytest.fixture
def install(site: Path) -> Callable[[Scaffold], None]:
    """Return a function that installs a scaffold as pip does: its module and its metadata."""

    def write(made: Scaffold) -> None:
        project = tomllib.loads((made.folder / "pyproject.toml").read_text("utf-8"))["project"]
        info = site / f"{made.package.replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
        points = "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())
            for group, named in project["entry-points"].items()
        )
        (info / "entry_points.txt").write_text(points)
        for module in made.folder.glob("*.py"):
            (site / module.name).write_text(module.read_text("utf-8"), "utf-8")

    return write


@pytest.mark.parametrize("group", groups_with_templates())
@pytest.mark.parametrize("name", ["tinynet", "my-net-2"])
def test_a_scaffold_passes_its_check_and_its_tests(
    install: Callable[[Scaffold], None], loaded_here: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, group: str, name: str
) -> None:
    monkeypatch.setattr(architecture_checks, "check_real_path", lambda *_: None)  # see the slow test of the command
    made = new_plugin(name, group, out=tmp_path / "here")
    install(made)
    report = check_plugin(name, group)
    assert [result for result in report.results if not result.ok] == []
    assert report.package == f"cnnkit-{name}"
    [tests] = made.folder.glob("tests/test_*.py")
    namespace: dict[str, object] = {}
    exec(compile(tests.read_text("utf-8"), tests, "exec"), namespace)  # noqa: S102 (its tests are plain functions)
    found = [value for key, value in namespace.items() if key.startswith("test_") and callable(value)]
    assert len(found) >= 2
    for test in found:
        test(*[tmp_path] * len(signature(test).parameters))


def test_the_files_are_those_of_a_package_and_no_mark_is_left() -> None:
    made = new_plugin("tinynet")
    assert made.folder == Path("cnnkit-tinynet")
    assert made.files == ("pyproject.toml", "README.md", "cnnkit_tinynet.py", "tests/test_tinynet.py")
    assert sorted(path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*") if path.is_file()) == sorted(made.files)
    for file in made.files:
        text = (made.folder / file).read_text("utf-8")
        assert "$" not in text.replace("$ ", "")
        assert "tinynet" in text
    assert "$ cnnkit train --arch tinynet --data digits" in (made.folder / "README.md").read_text("utf-8")


def test_the_images_of_a_new_source_can_be_read(install: Callable[[Scaffold], None]) -> None:
    install(new_plugin("shapes", SOURCES))
    source = open_source("shapes")
    assert len(source.records) == 120
    assert is_image(source.read(source.records[0]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "cannot be the name of a plugin: it must start with a letter"),
        ("TinyNet", "lower-case letters, digits and single hyphens, 40 characters at most; for example: cnnkit plugins new tinynet"),
        ("tiny_net", "for example: cnnkit plugins new tiny-net"),
        ("../tiny", "for example: cnnkit plugins new tiny"),
        ("1net", "it must start with a letter"),
        ("a" * 41, "40 characters at most"),
        ("é", "it must start with a letter"),
        ("net\n", "for example: cnnkit plugins new net"),
        ("cnnkit-tinynet", "gets 'cnnkit-' by itself; type: cnnkit plugins new tinynet"),
        ("class", "the module needs the name 'class' itself; choose another name, such as my-class"),
        ("build", "the module needs the name 'build' itself"),
        ("nn", "the module needs the name 'nn' itself"),
        ("custom-cnn", "is the name of a built-in architecture, which would hide the new one"),
        ("timm", "is the name of a built-in architecture"),
    ],
)
def test_a_name_that_would_not_work_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        new_plugin(name)
    assert not [*Path().glob("cnnkit-*")]


def test_the_name_of_another_package_is_refused(install_package: Callable[..., None]) -> None:
    install_package("acme", "net", "acme:net")
    with pytest.raises(ConfigError, match=r"the installed package acme 1\.0 provides the architecture 'net'; choose another name"):
        new_plugin("net")
    assert new_plugin("net", SOURCES).folder.is_dir()


def test_an_existing_folder_is_refused_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "cnnkit-tinynet"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"cnnkit-tinynet exists already; choose another name, or another parent folder: --out FOLDER"):
        new_plugin("tinynet", out=tmp_path)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_a_failed_scaffold_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        new_plugin("tinynet", out=tmp_path / "out")
    assert [*(tmp_path / "out").iterdir()] == []


def test_a_group_without_templates_is_refused() -> None:
    assert set(GROUPS) - set(groups_with_templates()) == {EXPORTERS}
    with pytest.raises(
        ConfigError, match="--group exporters: there is no scaffold for this group; there is one for architectures, sources"
    ):
        new_plugin("net", EXPORTERS)
