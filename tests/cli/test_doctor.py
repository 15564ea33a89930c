from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cnnkit.api.images import doctor as room
from cnnkit.doctor.finding import IDS, Finding, Health, Severity

NOTE = Finding("odd-mode", Severity.NOTE, (("a.png",),), "1 image has an alpha channel")
WARNING = Finding("imbalance", Severity.WARNING, (), "bees has 30 times the images of ants")
ERROR = Finding("leak", Severity.ERROR, (("train/a.jpg", "test/b.jpg"),), "1 image is in two splits")


@pytest.fixture
def sick(image_folder) -> Path:
    """Return three classes with a broken file, a copy within a class and a copy with another label."""
    folder = image_folder(images=20)
    (folder / "ants" / "broken.jpg").write_bytes((folder / "ants" / "ants-000.jpg").read_bytes()[:300])
    shutil.copy(folder / "ants" / "ants-001.jpg", folder / "ants" / "ants-001-copy.jpg")
    shutil.copy(folder / "ants" / "ants-002.jpg", folder / "bees" / "bees-from-ants.jpg")
    return folder


@pytest.fixture
def examined(monkeypatch) -> dict[str, Any]:
    """Replace the examination by one that returns `health` and records its arguments."""
    recorded: dict[str, Any] = {"health": Health(images=2, classes={"ants": 1, "bees": 1}, findings=())}

    def examine(data, **given):
        recorded.update(given, data=data)
        return recorded["health"]

    monkeypatch.setattr(room, "examine", examine)
    return recorded


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_planted_problems_are_found_and_nothing_is_changed(cli, sick):
    before = state(sick)
    result = cli("doctor", sick)
    assert result.code == 0, result.err
    assert result.out.startswith("63 images, 3 classes: ")
    for finding, file in (("unreadable", "broken.jpg"), ("duplicate", "ants-001-copy.jpg"), ("label-conflict", "bees-from-ants.jpg")):
        assert finding in result.out
        assert file in result.out
    assert "--html" in result.err
    assert state(sick) == before


def test_json_has_the_documented_keys(cli, sick):
    shown = cli("doctor", sick, "--json").json()
    assert shown["images"] == 63
    assert shown["classes"] == {"ants": 22, "bees": 21, "wasps": 20}
    findings = {finding["id"]: finding for finding in shown["findings"]}
    assert set(findings) <= set(IDS)
    assert findings["unreadable"]["files"] == [["ants/broken.jpg"]]
    assert findings["label-conflict"]["files"] == [["ants/ants-002.jpg", "bees/bees-from-ants.jpg"]]
    assert all(set(finding) == {"id", "severity", "files", "message"} for finding in shown["findings"])


def test_page_and_sheet_show_the_files(cli, sick):
    result = cli("doctor", sick, "--html", "out/health.html", "--sheet", "out/copies.png")
    assert result.code == 0, result.err
    assert "page out/health.html" in result.err
    page = Path("out/health.html").read_text("utf-8")
    assert "ants/ants-001-copy.jpg" in page
    assert page.count("data:image/png;base64,") >= 4
    with Image.open("out/copies.png") as sheet:
        assert sheet.height > 2 * 128
    assert sorted(path.name for path in Path("out").iterdir()) == ["copies.png", "health.html"]


def test_classes_restrict_the_examination(cli, sick):
    assert cli("doctor", sick, "--classes", "bees,wasps", "--json").json()["classes"] == {"bees": 21, "wasps": 20}


def test_digits_are_examined_too(cli):
    result = cli("doctor", "digits")
    assert result.code == 0, result.err
    assert result.out.startswith("1,797 images, 10 classes: ")


@pytest.mark.parametrize(
    ("findings", "code", "said"),
    [((), 0, ""), ((NOTE,), 0, ""), ((NOTE, WARNING), 1, "--strict: warning: imbalance"), ((ERROR,), 1, "--strict: error: leak")],
)
def test_strict_fails_after_the_result_is_printed(cli, examined, findings, code, said):
    examined["health"] = Health(images=2, classes={"ants": 1, "bees": 1}, findings=findings)
    result = cli("doctor", "images", "--strict")
    assert result.code == code
    assert said in result.err
    assert result.out.startswith("2 images, 2 classes: ")
    assert cli("doctor", "images").code == 0


def test_strict_names_errors_before_warnings(cli, examined):
    examined["health"] = Health(images=2, classes={"ants": 1}, findings=(WARNING, ERROR))
    assert "--strict: error: leak; warning: imbalance" in cli("doctor", "images", "--strict", "--json").err


def test_flags_reach_the_examination(cli, examined):
    assert cli("doctor", "images", "--model", "runs/001-x", "--group-by", "patient", "--workers", "3", "--download").code == 0
    assert examined["data"] == "images"
    assert examined["model"] == Path("runs/001-x")
    assert {name: examined[name] for name in ("group_by", "workers", "download")} == {"group_by": "patient", "workers": 3, "download": True}


@pytest.mark.parametrize(("flag", "ending"), [("--html", ".html"), ("--sheet", ".png")])
def test_a_wrong_ending_is_refused_before_anything_is_read(cli, flag, ending):
    result = cli("doctor", "nowhere", flag, "file.pdf")
    assert result.code == 2
    assert f"{flag} file.pdf: the ending must be {ending}" in result.err
