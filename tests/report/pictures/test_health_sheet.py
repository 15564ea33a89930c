from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnkit.doctor.finding import Finding, Health, Severity
from cnnkit.report.pictures import health_sheet as module
from cnnkit.report.pictures.contact_sheet import Tile
from cnnkit.report.pictures.health_sheet import difference, health_sheet, sheet_files

SUSPECTS = Finding("label-suspect", Severity.NOTE, tuple((f"s{index}.jpg",) for index in range(8)), "8 labels look wrong")
COPIES = Finding("duplicate", Severity.WARNING, (("a.jpg", "b.jpg"),), "1 pair of copies")
ODD = Finding("odd-mode", Severity.NOTE, (("odd.png",),), "not pictured")
HEALTH = Health(images=10, classes={"ants": 10}, findings=(SUSPECTS, ODD, COPIES))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the arguments of the contact sheets that the test draws."""
    arguments: dict[str, Any] = {}
    draw = module.contact_sheet
    monkeypatch.setattr(module, "contact_sheet", lambda rows, **given: (arguments.update(given, rows=rows), draw(rows, **given))[1])
    return arguments


def test_a_group_of_copies_has_its_row_and_suspects_share_rows(drawn: dict[str, Any]) -> None:
    images = {file: np.full((8, 8, 3), 9, np.uint8) for file in sheet_files(HEALTH)}
    png = health_sheet(HEALTH, images, title="t")
    captions = [[tile.caption for tile in row] for row in drawn["rows"]]
    assert captions == [["a.jpg", "b.jpg"], [f"s{index}.jpg" for index in range(6)], ["s6.jpg", "s7.jpg"]]
    assert drawn["labels"] == ["duplicate", "label-suspect", "label-suspect"]
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"


def test_a_file_without_an_image_is_left_out(drawn: dict[str, Any]) -> None:
    health_sheet(HEALTH, {"b.jpg": np.zeros((8, 8, 3), np.uint8)})
    assert [[tile.caption for tile in row] for row in drawn["rows"]] == [["b.jpg"]]
    assert all(isinstance(tile, Tile) for row in drawn["rows"] for tile in row)


def test_a_finding_has_a_limit_of_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CASES", 3)
    assert sheet_files(HEALTH) == ["a.jpg", "b.jpg", "s0.jpg", "s1.jpg", "s2.jpg"]


def test_a_sheet_without_pictured_findings_is_empty() -> None:
    assert health_sheet(Health(images=1, classes={"ants": 1}, findings=(ODD,)), {}, title="no copies")


def test_a_row_of_a_near_conflict_ends_with_the_difference(drawn: dict[str, Any]) -> None:
    conflict = Finding("near-conflict", Severity.WARNING, (("a.jpg", "b.jpg"), ("c.jpg", "missing.jpg")), "2 sets")
    images = {file: np.full((8, 8, 3), 9, np.uint8) for file in ("a.jpg", "b.jpg", "c.jpg")}
    health_sheet(Health(images=3, classes={"ants": 3}, findings=(conflict,)), images)
    assert [[tile.caption for tile in row] for row in drawn["rows"]] == [["a.jpg", "b.jpg", "difference"], ["c.jpg"]]


def test_the_difference_shows_the_changed_part_of_a_turned_and_resized_image() -> None:
    picture = np.random.default_rng(0).integers(0, 200, (16, 16, 3), np.uint8).repeat(2, 0).repeat(2, 1)
    other = picture.copy()
    other[4:8, 20:24] = 255
    shown = difference(np.rot90(picture.repeat(2, 0).repeat(2, 1)), other)
    assert shown.shape == (32, 32, 3)
    assert shown.max() == 255
    assert not shown[8:].any()
    assert not difference(picture, picture[:, ::-1]).any()
