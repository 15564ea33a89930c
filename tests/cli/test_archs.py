"""``cnnkit archs``: the list reads only metadata, a pattern lists members of a family, `show` builds one architecture."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnkit import __version__

BUILTIN = ["custom-cnn", "deep-cnn-14", "deep-cnn-8", "fast-cnn", "residual-cnn", "timm"]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Return a function that installs a package with one entry point into a folder on `sys.path`."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def write(package: str, point: str, source: str) -> None:
        info = site / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[cnnkit.architectures]\n{point}\n")
        (site / f"{point.partition('= ')[2].partition(':')[0]}.py").write_text(source)

    return write


def test_the_list_has_package_version_and_summary(cli: Callable[..., Any]) -> None:
    done = cli("archs")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()[2:] if f" cnnkit {__version__} " in line] == BUILTIN
    assert "cnnkit 0.1.0" in done.out
    assert "Conv-ReLU-MaxPool blocks" in done.out


def test_the_list_loads_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from cnnkit.cli.app import main; code = main(['archs']); "
        "sys.exit(code or bool({'torch', 'timm', 'torchvision'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_json_is_one_document_of_the_same_rows(cli: Callable[..., Any]) -> None:
    rows = [row for row in cli("archs", "--json").json()["architectures"] if row["package"] == "cnnkit"]  # other packages may be installed
    assert [row["name"] for row in rows] == BUILTIN
    assert rows[0] == {
        "name": "custom-cnn",
        "summary": "case study: Conv-ReLU-MaxPool blocks, dense layer",
        "package": "cnnkit",
        "version": "0.1.0",
        "problem": None,
    }


@pytest.mark.parametrize("arguments", [["DEEP*", "--json"], ["--json", "deep*"], ["list", "deep-cnn-?*", "--json"]])
def test_a_pattern_matches_names_in_any_case(cli: Callable[..., Any], arguments: list[str]) -> None:
    assert [row["name"] for row in cli("archs", *arguments).json()["architectures"]] == ["deep-cnn-14", "deep-cnn-8"]


def test_a_pattern_without_a_match_is_an_error_with_the_closest_name(cli: Callable[..., Any]) -> None:
    done = cli("archs", "custom-cn")
    assert done.code == 2
    assert "no architecture matches 'custom-cn'; did you mean 'custom-cnn'" in done.err
    assert "Known: custom-cnn, deep-cnn-14" in done.err
    assert done.out == ""


def test_a_pattern_in_a_family_lists_and_counts_its_members(cli: Callable[..., Any]) -> None:
    done = cli("archs", "timm/RESNET1*")
    names = done.out.split()
    assert done.code == 0
    assert {"timm/resnet18", "timm/resnet101"} < set(names)
    assert all(name.startswith("timm/resnet1") for name in names)
    assert f"{len(names)} architectures match 'timm/RESNET1*'" in done.err


def test_a_name_longer_than_the_terminal_is_not_cut_in_a_pipe(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert cli("archs", "timm/vit_tiny_patch16_224").out.splitlines() == ["timm/vit_tiny_patch16_224"]


def test_members_are_in_columns_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from cnnkit.cli import archs, console

    screen = io.StringIO()
    monkeypatch.setattr(console, "out", lambda: Console(file=screen, force_terminal=True, width=40, height=10, no_color=True))
    names = [f"zoo/net{number}" for number in range(6)]
    archs._print_names(names)
    assert len(screen.getvalue().splitlines()) == 2
    assert sorted(screen.getvalue().split()) == names


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("timm/resnet81", "family 'timm' (cnnkit 0.1.0) has no member that matches 'resnet81'; did you mean 'resnet18'"),
        ("custom-cnn/*", "architecture 'custom-cnn' of cnnkit 0.1.0 is not a family"),
        ("tim/*", "no architecture named 'tim' is installed; did you mean 'timm'"),
    ],
)
def test_a_family_pattern_without_a_match_is_an_error_with_the_reason(cli: Callable[..., Any], pattern: str, message: str) -> None:
    done = cli("archs", pattern)
    assert done.code == 2
    assert message in done.err


def test_broken_and_duplicate_packages_are_marked_rows(cli: Callable[..., Any], install: Callable[..., None]) -> None:
    install("half-net", "half = half_net:net", "import no_such_library\n")
    install("other-cnn", "custom-cnn = other_cnn:net", "net = 1\n")
    install("twice-a", "twice = twice_a:net", "net = 1\n")
    install("twice-b", "twice = twice_b:net", "net = 1\n")
    done = cli("archs", "--json")
    problems = {(row["name"], row["package"]): row["problem"] for row in done.json()["architectures"] if row["problem"]}
    assert done.code == 0
    assert problems == {
        ("half", "half-net"): "it imports 'no_such_library', which is not installed",
        ("twice", "twice-a"): "twice-b 1.0 provides this name too: uninstall all but one, or name this one twice-a:twice",
        ("twice", "twice-b"): "twice-a 1.0 provides this name too: uninstall all but one, or name this one twice-b:twice",
    }
    names = [(row["name"], row["package"]) for row in done.json()["architectures"]]
    assert {("custom-cnn", "cnnkit"), ("other-cnn:custom-cnn", "other-cnn")} < set(names)
    assert cli("archs", "other-cnn:*", "--json").json()["architectures"][0]["name"] == "other-cnn:custom-cnn"
    text = cli("archs").out
    assert "broken: it imports 'no_such_library'" in text
    assert "residual-cnn" in text


def test_check_loads_each_architecture_and_fails_if_one_does_not_load(cli: Callable[..., Any], install: Callable[..., None]) -> None:
    install("late-net", "late = late_net:net", "net = 1\nraise RuntimeError('while imported')\n")
    assert cli("archs", "late", "--json").json()["architectures"][0]["problem"] is None
    done = cli("archs", "*", "--check")
    assert done.code == 1
    assert "late-net 1.0 does not load: RuntimeError: while imported" in " ".join(done.out.split())
    listed = len(cli("archs", "--json").json()["architectures"])
    assert f"1 of {listed} architectures do not load: late" in done.err


def test_check_passes_when_everything_loads(cli: Callable[..., Any]) -> None:
    assert cli("archs", "--check").code == 0


def test_check_marks_an_empty_and_a_failing_family(cli: Callable[..., Any], install: Callable[..., None]) -> None:
    source = "from cnnkit import Family\n{} = Family(members=lambda: {}, get=print, summary='')\n"
    install("empty-zoo", "empty = empty_zoo:zoo", source.format("zoo", "[]"))
    install("sick-zoo", "sick = sick_zoo:zoo", source.format("zoo", "1 / 0"))
    problems = {row["name"]: row["problem"] for row in cli("archs", "*", "--check", "--json").json()["architectures"]}
    assert problems["empty"] == "family 'empty' of empty-zoo 1.0 has no members"
    assert problems["sick"].startswith("architecture 'sick' of sick-zoo 1.0 cannot list its members: ZeroDivisionError: division by zero")


def test_show_has_options_size_and_source(cli: Callable[..., Any]) -> None:
    done = cli("archs", "show", "custom-cnn", "--set", "width=4", "--json")
    card = done.json()
    assert done.code == 0
    assert (card["name"], card["package"], card["source"]) == ("custom-cnn", "cnnkit", "cnnkit.architectures.custom_cnn:custom_cnn")
    limits = {"choices": [], "low": 1, "high": None, "limits": "at least 1"}
    assert card["options"][0] == {"name": "width", "type": "int", "default": 32, "value": 4} | limits
    assert (card["image_size"], card["classes"], card["pretrained"]) == (128, 10, None)
    convolutions = (3 * 4, 4 * 8, 8 * 16)
    assert card["parameters"] == 9 * sum(convolutions) + 28 + (256 * 128 + 128) + (128 * 10 + 10)
    assert card["macs"] == 9 * sum(pair * (128 >> block) ** 2 for block, pair in enumerate(convolutions)) + 256 * 128 + 128 * 10


def test_show_prints_a_card(cli: Callable[..., Any]) -> None:
    text = cli("archs", "show", "residual-cnn", "--set", "width=4").out
    assert "6,573,130" not in text
    assert "for one RGB image of 64 px" in text
    assert "Options, set with --set NAME=VALUE" in text
    assert ["width", "int", "64", "4", "at", "least", "1"] in [line.split() for line in text.splitlines()]


def test_show_names_published_weights(cli: Callable[..., Any]) -> None:
    card = json.loads(cli("archs", "show", "timm/mobilenetv3_small_050", "--json").out)
    assert card["pretrained"]["place"] == "model.safetensors of https://huggingface.co/timm/mobilenetv3_small_050.lamb_in1k"
    assert card["pretrained"]["image_size"] == 224
    assert len(card["pretrained"]["mean"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["custm-cnn"], "no architecture named 'custm-cnn' is installed; did you mean 'custom-cnn'"),
        (["timm"], "'timm' is a family of architectures; name a member"),
        (["timm/resnet81"], "has no member 'resnet81'; did you mean 'resnet18'"),
        (["custom-cnn", "--set", "widht=4"], "has no option 'widht'; did you mean 'width'"),
        (
            ["custom-cnn", "--set", "blocks=20"],
            "option 'blocks' of architecture 'custom-cnn' must be of type int, from 1 to 8",
        ),
    ],
)
def test_show_of_an_unknown_name_or_option_is_an_error(cli: Callable[..., Any], arguments: list[str], message: str) -> None:
    done = cli("archs", "show", *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.out == ""


def test_show_of_a_failing_build_is_an_error_that_names_the_package(cli: Callable[..., Any], install: Callable[..., None]) -> None:
    install(
        "picky-net",
        "picky = picky_net:net",
        "from cnnkit import Architecture\n"
        "def build(num_classes, in_channels, *, width: int = 0):\n"
        "    raise ValueError('width must be even')\n"
        "net = Architecture(build=build, summary='picky', image_size=8)\n",
    )
    done = cli("archs", "show", "picky")
    assert done.code == 2
    assert "'picky' of picky-net 1.0 cannot be built for 10 classes and 3 channels with width=0: ValueError: width must be even" in done.err


def test_help_names_both_forms(cli: Callable[..., Any]) -> None:
    text = cli("archs", "--help").out
    assert "[PATTERN] | show NAME" in text
    assert "cnnkit archs 'timm/*net*'" in text
