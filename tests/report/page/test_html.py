from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnkit.doctor.finding import Finding, Health, Severity
from cnnkit.report.page import html as pages
from cnnkit.report.page.html import health_html, pictured_files, preview_html
from cnnkit.report.pictures.thumbnail import data_uri, png, shrunk

Parser = Callable[[str], Any]  # of conftest.py
EVIL = "<script>alert('x')</script>&\udcff\x1b.jpg"
COPIES = Finding("duplicate", Severity.WARNING, (("a.jpg", "b.jpg"), ("c.jpg", "d.jpg")), "2 pairs of copies")
BROKEN = Finding("unreadable", Severity.ERROR, (("broken.jpg",),), "1 image cannot be read")
HEALTH = Health(images=7, classes={"ants": 3, "bees": 4}, findings=(COPIES, BROKEN), notes=("a note",))
PNG = png(np.zeros((4, 4, 3), np.uint8))


def test_the_page_is_self_contained(parsed: Parser) -> None:
    source = health_html(HEALTH, {"a.jpg": PNG})
    page = parsed(source)
    assert page.addresses == [data_uri(PNG)]
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert re.search(r"https?:|//[a-z]|@import|url\(", source) is None


def test_the_page_has_verdict_classes_notes_and_findings_worst_first(parsed: Parser) -> None:
    texts = parsed(health_html(HEALTH, {}, title="Health of ants-bees")).texts
    for expected in ("Health of ants-bees", "7 images, 2 classes: 1 error, 1 warning", "ants", "3", "a note", "a.jpg ↔ b.jpg"):
        assert expected in texts
    assert texts.index("unreadable") < texts.index("duplicate")


def test_everything_from_the_data_is_escaped(parsed: Parser) -> None:
    finding = Finding("unreadable", Severity.ERROR, ((EVIL,),), EVIL)
    health = Health(images=1, classes={EVIL: 1}, findings=(finding,), notes=(EVIL,))
    source = health_html(health, {EVIL: PNG}, title=EVIL)
    assert "<script" not in source
    source.encode("utf-8")  # invalid bytes of a file name are escaped
    assert sum(r"<script>alert('x')</script>&\udcff\x1b.jpg" in text for text in parsed(source).texts) == 6
    assert "<script" not in preview_html([(EVIL, EVIL, [])], [], title=EVIL, description=EVIL, notes=[EVIL])


def test_only_the_first_cases_have_pictures(parsed: Parser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_PICTURED_CASES", 1)
    assert pictured_files(HEALTH) == ["broken.jpg", "a.jpg", "b.jpg"]
    assert len(parsed(health_html(HEALTH, {"a.jpg": PNG, "c.jpg": PNG})).addresses) == 1


def test_a_group_of_copies_has_a_few_pictures_and_a_count(parsed: Parser) -> None:
    files = tuple(f"{index}.jpg" for index in range(9))
    health = Health(images=9, classes={"a": 9}, findings=(Finding("duplicate", Severity.NOTE, (files,), "1 group"),), notes=())
    page = parsed(health_html(health, dict.fromkeys(files, PNG)))
    assert len(page.addresses) == pages.MAX_PICTURED_FILES
    assert "and 5 more" in page.texts
    assert " ↔ ".join(files) in page.texts


def test_a_finding_with_all_its_pictures_has_no_list() -> None:
    source = health_html(HEALTH, dict.fromkeys(("a.jpg", "b.jpg", "c.jpg", "d.jpg"), PNG))
    assert source.count("<details") == 1  # the list of the unreadable file, which is open
    assert "<details open>" in source


def test_flags_in_a_message_are_code() -> None:
    health = Health(images=1, classes={"a": 1}, findings=(Finding("imbalance", Severity.NOTE, (), "<b> try --balance weights"),))
    assert "<p>&lt;b&gt; try <code>--balance</code> weights</p>" in health_html(health, {})


def test_the_list_of_cases_has_a_limit(parsed: Parser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_LISTED_CASES", 1)
    texts = parsed(health_html(HEALTH, {})).texts
    assert "The first 1 cases;" in texts
    assert "c.jpg ↔ d.jpg" not in texts


def test_healthy_data_and_many_classes(parsed: Parser) -> None:
    classes = {f"class {index}": index for index in range(30)}
    texts = parsed(health_html(Health(images=435, classes=classes, findings=(), notes=()), {})).texts
    assert "No findings." in texts
    assert "all 30 classes" in texts
    assert any(text.startswith("images per class: median") for text in texts)


def test_a_preview_has_a_row_per_image(parsed: Parser) -> None:
    image = np.full((300, 200, 3), 7, np.uint8)
    page = parsed(
        preview_html([("ants", "ants/1.jpg", [image, image]), ("bees", "bees/1.jpg", [image, image])], ["plain", "varied"], title="P")
    )
    assert page.addresses == [data_uri(png(shrunk(image)))] * 4
    assert {"ants", "ants/1.jpg", "bees", "bees/1.jpg", "plain", "varied"} <= set(page.texts)


@pytest.mark.parametrize(("size", "expected"), [((300, 200), (128, 85)), ((20, 30), (20, 30)), ((1000, 1), (128, 1))])
def test_thumbnails_are_small(size: tuple[int, int], expected: tuple[int, int]) -> None:
    image: np.ndarray[Any, Any] = np.zeros((*size, 3), np.uint8)
    assert shrunk(image).shape == (*expected, 3)


def test_every_page_has_a_policy_and_no_style_attribute() -> None:
    made = [health_html(HEALTH, {}), preview_html([("ants", "a.jpg", [np.zeros((4, 4, 3), np.uint8)])], ["original"], title="preview")]
    for page in made:
        assert "default-src 'none'" in page
        assert " style=" not in page
