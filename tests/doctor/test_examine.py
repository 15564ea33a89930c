from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnkit.data.columns import Codes, RecordColumns
from cnnkit.data.store.index import FactColumns
from cnnkit.doctor import examine as examining
from cnnkit.doctor.evidence import Evidence
from cnnkit.doctor.examine import examine
from cnnkit.doctor.finding import IDS


def paths_of(finding) -> Iterator[str]:
    return (path for case in finding.files for path in case)


def test_clean_data_has_no_findings(image_folder, collect) -> None:
    found = collect(image_folder(classes=("ants", "bees"), images=100, size=(24, 24)))
    assert [finding for finding in examine(found) if finding.id != "shortcut"] == []


def test_planted_problems_are_found_in_the_order_of_the_ids(image_folder, collect) -> None:
    folder = image_folder(classes={"ants": 20, "bees": 100, "Bees": 20}, size=(100, 80))
    whole = (folder / "bees" / "bees-000.jpg").read_bytes()
    (folder / "bees" / "truncated.jpg").write_bytes(whole[:400])
    (folder / "bees" / "copy.jpg").write_bytes(whole)
    (folder / "ants" / "conflict.jpg").write_bytes((folder / "bees" / "bees-001.jpg").read_bytes())
    (folder / "ants" / "named.jpg").write_bytes(b"")
    Image.new("RGB", (100, 80), (10, 200, 30)).save(folder / "ants" / "flat.png")
    Image.new("RGBA", (100, 80), (10, 200, 30, 9)).save(folder / "ants" / "alpha.png")
    findings = {finding.id: finding for finding in examine(collect(folder), shortcuts=False)}
    assert list(findings) == [name for name in IDS if name in findings]
    assert list(findings) == [
        "unreadable", "odd-mode", "constant", "imbalance", "small-class", "class-name-clash", "duplicate", "label-conflict",
    ]  # fmt: skip
    assert set(paths_of(findings["unreadable"])) == {"bees/truncated.jpg", "ants/named.jpg"}
    assert findings["duplicate"].files == (("bees/bees-000.jpg", "bees/copy.jpg"),)
    assert findings["label-conflict"].files == (("ants/conflict.jpg", "bees/bees-001.jpg"),)


def test_shortcuts_are_checked_by_default(image, evidence) -> None:
    images = [image("a", quality=75) for _ in range(30)] + [image("b", quality=90) for _ in range(30)]
    assert "shortcut" in {finding.id for finding in examine(evidence(images))}
    assert "shortcut" not in {finding.id for finding in examine(evidence(images), shortcuts=False)}


def test_no_images_have_no_findings(evidence, image) -> None:
    one = evidence([image()])
    assert examine(Evidence(RecordColumns.of(()), FactColumns.of(()), one.thumbnails[:0], one.near)) == []


def test_unreadable_files_alone_do_not_crash_a_check(image, evidence) -> None:
    unreadable = [image(label, error="the file is empty", width=0, height=0) for label in ("a", "b") for _ in range(30)]
    assert next(finding.id for finding in examine(evidence(unreadable))) == "unreadable"


def test_masks_are_one_finding_and_the_other_checks_judge_the_photographs(image, evidence) -> None:
    """The masks are black, equal and of another shape; nothing but companion-files says so."""
    masks = [image(label, path=f"{label}/{n}.png", tones=1, mean=0, std=0, content="black", width=999) for label in "ab" for n in range(60)]
    photographs = [image(label, path=f"{label}/{n}.jpg", tones=20) for label in "ab" for n in range(60)]
    found = examine(evidence([*photographs, *masks], near=[(0, 120)]), shortcuts=False)
    assert [finding.id for finding in found] == ["small-class", "companion-files"]
    assert len(found[1].files) == 120


def test_findings_are_cached_until_the_images_change(image, evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = evidence([*(image("a", quality=75) for _ in range(30)), *(image("b", quality=90) for _ in range(30))], near=[(0, 1)])
    first = examine(found, folder=tmp_path)
    assert {"duplicate", "shortcut"} <= {finding.id for finding in first}
    runs: list[str] = []
    monkeypatch.setattr(examining, "_run", lambda *_: runs.append("run") or [])
    assert examine(replace(found), folder=tmp_path) == first
    assert runs == []
    changes = [
        {"records": RecordColumns.of([*found.records[:-1], found.records[-1]._replace(label="a")])},
        {"facts": FactColumns.of([*found.facts[:-1], found.facts[-1]._replace(sha256=32 * "0f")])},
        {"facts": FactColumns.of([*found.facts[:-1], found.facts[-1]._replace(error="the file is empty")])},
        {"near": replace(found.near, pairs=np.array([(0, 2)]))},
        {"near": replace(found.near, same=np.array([True]))},
        {"image_size": 64},
        {"empty_classes": {"wasps": 3}},
        {"splits": Codes.constant("train", 60)},
    ]
    for change in changes:
        assert examine(replace(found, **change), folder=tmp_path) == []
    assert len(runs) == len(changes)
    examine(found, shortcuts=False, folder=tmp_path)
    monkeypatch.setattr(examining, "EXAMINE_VERSION", 0)
    examine(found, folder=tmp_path)
    assert len(runs) == len(changes) + 2
